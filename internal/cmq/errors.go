package cmq

import (
	"fmt"
	"strings"
)

// Error is one entry of the API's error catalogue (http-api.md 2.6). The texts are the service's own,
// typing errors included, because client programs compare them.
//
// Values of the catalogue are compared by Module and Code with Is; an entry whose text has a place for a
// parameter name is made with its function (for example ErrParameterType("limit")).
type Error struct {
	Code   int    // the JSON field "code"
	Module int    // the number in parentheses at the start of "message"; over TCP this is the result
	Text   string // without the number
}

// Error is the JSON field "message": "(module)text".
func (e *Error) Error() string { return fmt.Sprintf("(%d)%s", e.Module, e.Text) }

// Is reports whether target is the same entry of the catalogue, whatever parameter its text names.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Module == e.Module
}

// Errors about the request as such.
var (
	ErrParameters   = &Error{4000, 10110, "request parameters error"}
	ErrNoAction     = &Error{4000, 10280, "action is not existed"}
	ErrPermission   = &Error{4000, 10461, "no cam authentication"}
	ErrSignature    = &Error{4100, 10030, "authentication failed"}
	ErrKeyDisabled  = &Error{4100, 10080, "secret id status error"}
	ErrKeyUnknown   = &Error{4100, 10270, "secret id is not existed"}
	ErrThrottled    = &Error{4420, 10250, "qps throttling"}
	ErrFrequency    = &Error{4480, 10460, "exceed interface frequency limit, please slow down"}
	ErrInternal     = &Error{6000, 10050, "server internal error"}
	ErrSendFailed   = &Error{6000, 10090, "send message failed"}
	ErrReceive      = &Error{6000, 10130, "recieve message failed"}
	ErrDelete       = &Error{6000, 10140, "delete message failed"}
	ErrGetQueue     = &Error{6000, 10160, "get queue attributes failed"}
	ErrSetQueue     = &Error{6000, 10170, "set queue attributes failed"}
	ErrDeleteQueue  = &Error{6000, 10180, "delete queue failed"}
	ErrListQueue    = &Error{6000, 10190, "list queue failed"}
	ErrDeletePart   = &Error{6010, 10150, "delete message partially failed"}
	ErrDeleteBatch  = &Error{6020, 10290, "batch delete message failed"}
	ErrHandleFormat = &Error{4000, 10470, "receiptHandle error"}
)

// Errors about queues.
var (
	ErrQueueName       = &Error{4000, 10020, "queue name format error"}
	ErrQueueNotExist   = &Error{4440, 10100, "queue is not existed, or deleted"}
	ErrQueueExists     = &Error{4460, 10210, "queue is already existed"}
	ErrQueueLimit      = &Error{4450, 10220, "number of queues has reached the limit"}
	ErrQueueNameBusy   = &Error{6040, 10660, "it will take some time to release resources of previous queue before you create a new one with the same name, please try later"}
	ErrRewindRetention = &Error{4000, 10700, "rewindSeconds cannot be greater than msgRetentionSeconds"}
	ErrNotRewindable   = &Error{6050, 10670, "your queue cannot be rewinded"}
	ErrRewindTime      = &Error{4000, 10680, "invalid rewind time, you can get the vaild range of that via GetQueueAttributes"}
)

// Errors about dead-letter policies.
var (
	ErrDeadLetterJSON     = &Error{4000, 10710, "deadLetterPolicy must be a json string"}
	ErrDeadLetterParams   = &Error{4000, 10720, "deadLetterPolicy params error,please check it"}
	ErrDeadLetterNotExist = &Error{4000, 10730, "deadLetter queue not exist"}
	ErrDeadLetterNest     = &Error{4000, 10740, "deadLetter queue is not allowed to nest"}
	ErrDeadLetterInUse    = &Error{4000, 10750, "it is not allowed to be deleted when the queue is dead letter queue"}
	ErrDeadLetterQueue    = &Error{4000, 10760, "the deadLetterPolicy must has deadLetterQueue member, only be a string"}
	ErrDeadLetterPolicy   = &Error{4000, 10770, "the deadLetterPolicy must has policy member , only set 0 or 1"}
	ErrDeadLetterBinds    = &Error{4000, 10780, "the deadLetter Queue bind too many times"}
)

// Errors about messages.
var (
	ErrBodyEmpty     = &Error{4000, 10120, "message body can't be empty"}
	ErrMsgSize       = &Error{4400, 10230, "exceed maximum message size"}
	ErrBatchSize     = &Error{4470, 10300, "total message size exceed 1MB"}
	ErrDelayRange    = &Error{4000, 10692, "delay seconds is out of range"}
	ErrHeapFull      = &Error{4410, 10240, "reach maximum retention number of message"}
	ErrHandleInvalid = &Error{4430, 10260, "receipt handle is invalid"}
	ErrTooMany       = &Error{6070, 10690, "too many unacked(inactive) messages or delayed messages"}
	ErrNoMessage     = &Error{7000, 10200, "no message"}
)

// ErrDiskFull refuses what would need more room on the disks of the queue's servers. Nothing was stored; it may be
// sent again, and is taken as soon as there is room. It is not in the published catalogue, whose service never
// says so, and has numbers of its own for programs to tell it from what their own doing can end.
var ErrDiskFull = &Error{6080, 10800, "the disks of the server are full, please try later"}

// Errors of the change of a lock's end, which the published service does not have: for all handles, for some of
// them, and when the server failed.
var (
	ErrRelock      = &Error{6000, 10810, "change message visibility failed"}
	ErrRelockPart  = &Error{6010, 10820, "change message visibility partially failed"}
	ErrRelockBatch = &Error{6020, 10830, "batch change message visibility failed"}
)

// Errors about transactions. ErrNotPrepared answers a decision about a message that is not prepared: it never was, or it
// is decided. The last two are for confirmations of which all or some failed.
var (
	ErrNotPrepared = &Error{4490, 10770, "message id is invalid"}
	ErrNotAllowed  = &Error{4490, 10780, "message operation is not allowed"}
	ErrTransaction = &Error{4490, 10790, "transaction message is not supported"}
	ErrConfirm     = &Error{6040, 10750, "transaction confirmation failed"}
	ErrConfirmPart = &Error{6040, 10760, "transaction confirmation partially failed"}
)

// Errors about topics.
var (
	ErrTopicName      = &Error{4000, 10590, "topic name format error"}
	ErrTopicNotExist  = &Error{4440, 10600, "topic is not existed, or deleted"}
	ErrTopicExists    = &Error{4460, 10550, "topic is already existed"}
	ErrTopicLimit     = &Error{4450, 10610, "number of topics has reached the limit"}
	ErrTopicInUse     = &Error{4000, 10540, "there exists subscriptions under this topic, please unsubscribe all of them before DeleteTopic"}
	ErrNoSubscription = &Error{6030, 10650, "topic has no subscription, please create a subscription before publishing message"}
	ErrNoMatch        = &Error{6030, 10730, "no bindingKey or filterTag matches the routingKey or msgTag"}
	ErrDots           = &Error{4000, 10691, "too many delimeters"}
	ErrRoutingKey     = &Error{4000, 10700, "parameters lack of routingKey"}
	ErrMsgTags        = &Error{4000, 10720, "too many msgTag"}
)

// Errors about subscriptions. There are two of too many filter tags; ErrFilterTags is that of Subscribe.
var (
	ErrSubscriptionName     = &Error{4000, 10580, "subscription name format error"}
	ErrSubscriptionNotExist = &Error{4000, 10560, "subscription is not existed"}
	ErrSubscriptionExists   = &Error{4490, 10470, "subscribtion is already existed"}
	ErrSubscriptionLimit    = &Error{4500, 10480, "number of subscription has reached the limit"}
	ErrFilterTags           = &Error{4000, 10490, "number of filterTag exceed limit"}
	ErrBindingKeys          = &Error{4000, 10680, "too many bindingKey"}
	ErrBindingKey           = &Error{4000, 10710, "parameters lack of bindingKey"}
	ErrEndpointFormat       = &Error{4000, 10500, "endpoint format error"}
	ErrEndpoint             = &Error{4000, 10630, "illegal endpoint"}
	ErrEndpointBlank        = &Error{4510, 10570, "url connot contain any blank characters"}
	ErrProtocol             = &Error{4000, 10510, "undefined protocol"}
	ErrStrategy             = &Error{4000, 10520, "undefined notify retry stragety"}
	ErrFormat               = &Error{4000, 10530, "undefined notify content format"}
)

// Errors of producer sessions, which the published service does not have. Of both the outcome is unknown: the request may
// or may not have been carried out before. ErrSession says that the session was never opened here, was taken over by
// another producer, or had to make room; ErrRequestOld that the request is older than the answers that are kept.
var (
	ErrSession    = &Error{6000, 10840, "the producer session does not exist any more, the outcome of its requests is unknown"}
	ErrRequestOld = &Error{6000, 10850, "the request is too old for its producer session, its outcome is unknown"}
)

// ErrParameterKey is for a malformed parameter name.
func ErrParameterKey(p string) *Error {
	return &Error{4000, 10310, "error: parameter " + short(p) + " key format error"}
}

// ErrParameterRepeated is for a scalar given as a list or given twice.
func ErrParameterRepeated(p string) *Error {
	return &Error{4000, 10330, "parameter " + short(p) + " is NOT a repeatable parameter"}
}

// ErrParameterRange is for a number or length outside its range.
func ErrParameterRange(p string) *Error {
	return &Error{4000, 10350, "parameter " + p + " value or length is out of range"}
}

// ErrParameterType is for a number that is not decimal text.
func ErrParameterType(p string) *Error {
	return &Error{4000, 10360, "parameter " + p + " error type"}
}

// ErrParameterBatch is for a list with more entries than a batch may have.
func ErrParameterBatch(p string) *Error {
	return &Error{4000, 10370, p + " parameter batch size is out of range"}
}

// ErrParameterGap is for a list whose numbers are not consecutive from 0 or 1.
func ErrParameterGap(p string) *Error {
	return &Error{4000, 10380, p + " parameter is not consequent"}
}

// ErrParameterMissing is for a required parameter that is not there.
func ErrParameterMissing(p string) *Error {
	return &Error{4000, 10390, "lacked of required parameter " + p}
}

// ErrMethod is for an HTTP method other than GET and POST.
func ErrMethod(method string) *Error {
	return &Error{4000, 10410, "unexpected http " + short(method) + " only GET or POST is supported"}
}

// ErrUnparsable is for a request that cannot be parsed or is larger than allowed.
func ErrUnparsable(what string) *Error {
	return &Error{4000, 10420, "cannot parse " + what + ", or request size is more than 1MB"}
}

// ErrAction is for an action nobody knows.
func ErrAction(name string) *Error {
	return &Error{4000, 10430, "action name " + short(name) + " is not existed"}
}

// longestName is how much of a name that a client made up is repeated to it, in bytes. Names of actions and parameters are
// shorter; a request may have one of megabytes, sent before anybody said who he is.
const longestName = 128

func short(name string) string {
	if len(name) <= longestName {
		return name
	}
	return strings.ToValidUTF8(name[:longestName], "") + "…"
}
