package meta

import (
	"fmt"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// maxCertificates bounds the certificates of one subscription in bytes: a chain of some long ones.
const maxCertificates = 64 << 10

func appendStrings(b []byte, list []string) []byte {
	b = appendUint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

func (r *reader) strings(what string) (list []string) {
	for n := r.count("number of " + what); n > 0 && r.err == nil; n-- {
		list = append(list, r.string())
	}
	return list
}

func appendTopic(b []byte, t *cmq.Topic) []byte {
	b = appendUint(b, uint64(t.ID))
	b = appendString(b, t.Name)
	b = appendString(b, t.Owner)
	b = appendUint(b, uint64(t.Set))
	b = appendInt(b, int64(t.Filter))
	b = appendInt(b, int64(t.MaxMsgSize))
	b = appendInt(b, int64(t.MsgRetention))
	b = appendBool(b, t.Trace)
	b = appendUint(b, t.Version)
	b = appendTime(b, t.Created)
	return appendTime(b, t.Modified)
}

func (r *reader) topic() *cmq.Topic {
	return &cmq.Topic{
		ID: cmq.TopicID(r.uint()), Name: r.string(), Owner: r.string(), Set: r.setID(), Filter: cmq.FilterType(r.intRange()),
		MaxMsgSize: r.intRange(), MsgRetention: time.Duration(r.int()), Trace: r.bool(),
		Version: r.uint(), Created: r.time(), Modified: r.time(),
	}
}

func appendSubscription(b []byte, s *cmq.Subscription) []byte {
	b = appendUint(b, uint64(s.ID))
	b = appendUint(b, uint64(s.Topic))
	b = appendString(b, s.Name)
	b = appendString(b, s.Owner)
	b = appendString(b, string(s.Protocol))
	b = appendString(b, s.Endpoint)
	b = appendString(b, string(s.Strategy))
	b = appendString(b, string(s.Format))
	b = appendStrings(b, s.Tags)
	b = appendStrings(b, s.Keys)
	b = appendPush(b, &s.Push)
	b = appendUint(b, s.Version)
	b = appendTime(b, s.Created)
	return appendTime(b, s.Modified)
}

func (r *reader) subscription() *cmq.Subscription {
	return &cmq.Subscription{
		ID: cmq.SubscriptionID(r.uint()), Topic: cmq.TopicID(r.uint()), Name: r.string(), Owner: r.string(),
		Protocol: cmq.Protocol(r.string()), Endpoint: r.string(), Strategy: cmq.Strategy(r.string()), Format: cmq.Format(r.string()),
		Tags: r.strings("tags"), Keys: r.strings("keys"), Push: r.push(),
		Version: r.uint(), Created: r.time(), Modified: r.time(),
	}
}

func appendPush(b []byte, a *cmq.PushAttributes) []byte {
	b = appendString(b, a.Secret)
	b = appendInt(b, int64(a.Rate))
	b = appendInt(b, int64(a.Concurrency))
	b = appendBool(b, a.Ordered)
	b = appendBool(b, a.Paused)
	b = appendUint(b, uint64(a.DeadLetter))
	b = appendString(b, a.CA)
	return appendString(b, a.Agent)
}

func (r *reader) push() cmq.PushAttributes {
	return cmq.PushAttributes{
		Secret: r.string(), Rate: r.intRange(), Concurrency: r.intRange(), Ordered: r.bool(), Paused: r.bool(),
		DeadLetter: cmq.QueueID(r.uint()), CA: r.text(maxCertificates), Agent: r.string(),
	}
}

// topicVersion is the version of the encoding of a topic with or without a subscription, outside of images.
const topicVersion = 1

// EncodeTopic gives the bytes of one topic, and of one of its subscriptions if sub is not nil, for answers to other nodes.
//
//	+-------------+-------------------------------+-----------------+---------------------------+
//	| version (1) | fields of the topic           | 1: one follows  | fields of the subscription|
//	+-------------+-------------------------------+-----------------+---------------------------+
func EncodeTopic(t *cmq.Topic, sub *cmq.Subscription) []byte {
	b := appendBool(appendTopic([]byte{topicVersion}, t), sub != nil)
	if sub != nil {
		b = appendSubscription(b, sub)
	}
	return b
}

// DecodeTopic reads what EncodeTopic wrote. Errors wrap ErrFormat.
func DecodeTopic(data []byte) (*cmq.Topic, *cmq.Subscription, error) {
	r := &reader{data: data}
	if v := r.byte(); v != topicVersion && r.err == nil {
		return nil, nil, fmt.Errorf("%w: topic of version %d, this program knows %d", ErrFormat, v, topicVersion)
	}
	t, sub := r.topic(), (*cmq.Subscription)(nil)
	if r.bool() {
		sub = r.subscription()
	}
	if err := r.end(); err != nil {
		return nil, nil, err
	}
	return t, sub, nil
}
