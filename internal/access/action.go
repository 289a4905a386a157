package access

import "github.com/opencmq/cmq/internal/cmq"

// Action is one call of the API.
type Action uint8

// The actions on queues and messages, and behind them those on topics and subscriptions.
const (
	CreateQueue Action = iota + 1
	ListQueue
	GetQueueAttributes
	SetQueueAttributes
	DeleteQueue
	RewindQueue
	ClearQueue
	ListDeadLetterSourceQueues
	UnbindDeadLetterQueue
	QueryQueueRoute
	SendMessage
	BatchSendMessage
	ReceiveMessage
	BatchReceiveMessage
	DeleteMessage
	BatchDeleteMessage
	ChangeMessageVisibility      // ours
	BatchChangeMessageVisibility // ours
	ListPreparedMessages         // ours
	ConfirmTransaction           // ours; over TCP it is published
	OpenSession                  // ours; over TCP too
	CreateTopic
	ListTopic
	GetTopicAttributes
	SetTopicAttributes
	DeleteTopic
	QueryTopicRoute
	PublishMessage
	BatchPublishMessage
	Subscribe
	ListSubscriptionByTopic
	GetSubscriptionAttributes
	SetSubscriptionAttributes
	ClearSubscriptionFilterTags
	Unsubscribe
	TestSubscription        // ours
	ListSubscriptionByAgent // ours, as the rest: of agents
	ReceiveSubscriptionMessage
	DeleteSubscriptionMessage
	ChangeSubscriptionMessageVisibility

	ActionEnd // one more than the last action
)

// String is the name of the action as documented.
func (a Action) String() string {
	switch a {
	case CreateQueue:
		return "CreateQueue"
	case ListQueue:
		return "ListQueue"
	case GetQueueAttributes:
		return "GetQueueAttributes"
	case SetQueueAttributes:
		return "SetQueueAttributes"
	case DeleteQueue:
		return "DeleteQueue"
	case RewindQueue:
		return "RewindQueue"
	case ClearQueue:
		return "ClearQueue"
	case ListDeadLetterSourceQueues:
		return "ListDeadLetterSourceQueues"
	case UnbindDeadLetterQueue:
		return "UnbindDeadLetterQueue"
	case QueryQueueRoute:
		return "QueryQueueRoute"
	case SendMessage:
		return "SendMessage"
	case BatchSendMessage:
		return "BatchSendMessage"
	case ReceiveMessage:
		return "ReceiveMessage"
	case BatchReceiveMessage:
		return "BatchReceiveMessage"
	case DeleteMessage:
		return "DeleteMessage"
	case BatchDeleteMessage:
		return "BatchDeleteMessage"
	case ChangeMessageVisibility:
		return "ChangeMessageVisibility"
	case BatchChangeMessageVisibility:
		return "BatchChangeMessageVisibility"
	case CreateTopic:
		return "CreateTopic"
	case ListTopic:
		return "ListTopic"
	case GetTopicAttributes:
		return "GetTopicAttributes"
	case SetTopicAttributes:
		return "SetTopicAttributes"
	case DeleteTopic:
		return "DeleteTopic"
	case QueryTopicRoute:
		return "QueryTopicRoute"
	case PublishMessage:
		return "PublishMessage"
	case BatchPublishMessage:
		return "BatchPublishMessage"
	case Subscribe:
		return "Subscribe"
	case ListSubscriptionByTopic:
		return "ListSubscriptionByTopic"
	case GetSubscriptionAttributes:
		return "GetSubscriptionAttributes"
	case SetSubscriptionAttributes:
		return "SetSubscriptionAttributes"
	case ClearSubscriptionFilterTags:
		return "ClearSubscriptionFilterTags"
	case Unsubscribe:
		return "Unsubscribe"
	case TestSubscription:
		return "TestSubscription"
	case ListSubscriptionByAgent:
		return "ListSubscriptionByAgent"
	case ReceiveSubscriptionMessage:
		return "ReceiveSubscriptionMessage"
	case DeleteSubscriptionMessage:
		return "DeleteSubscriptionMessage"
	case ChangeSubscriptionMessageVisibility:
		return "ChangeSubscriptionMessageVisibility"
	case ListPreparedMessages:
		return "ListPreparedMessages"
	case ConfirmTransaction:
		return "ConfirmTransaction"
	case OpenSession:
		return "OpenSession"
	}
	return "unknown action"
}

// ParseAction finds the action with this name, whatever its case: a published client sends names in the wrong
// case. It does not allocate.
func ParseAction(name []byte) (Action, bool) {
	for a := CreateQueue; a < ActionEnd; a++ {
		if equalFold(a.String(), name) {
			return a, true
		}
	}
	return 0, false
}

// equalFold compares ASCII names; bytes outside ASCII match nothing.
func equalFold(name string, given []byte) bool {
	if len(name) != len(given) {
		return false
	}
	for i := range len(name) {
		if lower(name[i]) != lower(given[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// failure is the error of the catalogue for an action that failed for no fault of the client.
func (a Action) failure() *cmq.Error {
	switch a {
	case ListQueue, ListDeadLetterSourceQueues:
		return cmq.ErrListQueue
	case GetQueueAttributes:
		return cmq.ErrGetQueue
	case ConfirmTransaction:
		return cmq.ErrConfirm
	case SetQueueAttributes, UnbindDeadLetterQueue:
		return cmq.ErrSetQueue
	case DeleteQueue:
		return cmq.ErrDeleteQueue
	case SendMessage, BatchSendMessage, PublishMessage, BatchPublishMessage:
		return cmq.ErrSendFailed
	case ReceiveMessage, BatchReceiveMessage, ReceiveSubscriptionMessage:
		return cmq.ErrReceive
	case DeleteMessage, BatchDeleteMessage, DeleteSubscriptionMessage:
		return cmq.ErrDelete
	case ChangeMessageVisibility, BatchChangeMessageVisibility, ChangeSubscriptionMessageVisibility:
		return cmq.ErrRelock
	}
	return cmq.ErrInternal
}
