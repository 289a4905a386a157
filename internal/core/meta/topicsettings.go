package meta

import (
	"encoding/binary"

	"github.com/opencmq/cmq/internal/cmq"
)

// Bits of the first byte of encoded settings of a topic: which ones are given.
const (
	hasTopicSize = 1 << iota
	hasTopicRetention
	hasFilter
	hasTopicTrace
)

// appendTopicSettings writes which settings are given (one byte), then those given, in the order of the bits.
func appendTopicSettings(b []byte, s *cmq.TopicSettings) []byte {
	at := len(b)
	b = append(b, 0)
	if s.MaxMsgSize != nil {
		b[at] |= hasTopicSize
		b = appendInt(b, *s.MaxMsgSize)
	}
	if s.MsgRetentionSeconds != nil {
		b[at] |= hasTopicRetention
		b = appendInt(b, *s.MsgRetentionSeconds)
	}
	if s.Filter != nil {
		b[at] |= hasFilter
		b = appendInt(b, int64(*s.Filter))
	}
	if s.Trace != nil {
		b[at] |= hasTopicTrace
		b = appendBool(b, *s.Trace)
	}
	return b
}

func (r *reader) topicSettings() cmq.TopicSettings {
	has := r.byte()
	return cmq.TopicSettings{
		MaxMsgSize:          given(has&hasTopicSize != 0, r.int),
		MsgRetentionSeconds: given(has&hasTopicRetention != 0, r.int),
		Filter:              given(has&hasFilter != 0, func() cmq.FilterType { return cmq.FilterType(r.intRange()) }),
		Trace:               given(has&hasTopicTrace != 0, r.bool),
	}
}

// given reads a value if it is there.
func given[T any](there bool, read func() T) *T {
	if !there {
		return nil
	}
	v := read()
	return &v
}

// Bits of the first two bytes of encoded settings of a subscription, little endian: which ones are given.
const (
	hasProtocol = 1 << iota
	hasEndpoint
	hasStrategy
	hasFormat
	hasTags
	hasKeys
	hasSecret
	hasRate
	hasConcurrency
	hasOrdered
	hasPaused
	hasSubscriptionDeadLetter
	hasCA
	hasAgent
)

// appendSubscriptionSettings writes which settings are given (two bytes), then those given, in the order of the bits.
func appendSubscriptionSettings(b []byte, s *cmq.SubscriptionSettings) []byte {
	at := len(b)
	w := settingsWriter{b: append(b, 0, 0)}
	addSetting(&w, hasProtocol, s.Protocol, func(b []byte, v cmq.Protocol) []byte { return appendString(b, string(v)) })
	addSetting(&w, hasEndpoint, s.Endpoint, appendString)
	addSetting(&w, hasStrategy, s.Strategy, func(b []byte, v cmq.Strategy) []byte { return appendString(b, string(v)) })
	addSetting(&w, hasFormat, s.Format, func(b []byte, v cmq.Format) []byte { return appendString(b, string(v)) })
	addSetting(&w, hasTags, s.Tags, appendStrings)
	addSetting(&w, hasKeys, s.Keys, appendStrings)
	addSetting(&w, hasSecret, s.Secret, appendString)
	addSetting(&w, hasRate, s.Rate, appendInt)
	addSetting(&w, hasConcurrency, s.Concurrency, appendInt)
	addSetting(&w, hasOrdered, s.Ordered, appendBool)
	addSetting(&w, hasPaused, s.Paused, appendBool)
	addSetting(&w, hasSubscriptionDeadLetter, s.DeadLetter, appendString)
	addSetting(&w, hasCA, s.CA, appendString)
	addSetting(&w, hasAgent, s.Agent, appendString)
	binary.LittleEndian.PutUint16(w.b[at:], w.has)
	return w.b
}

// settingsWriter collects settings that are given, and which ones these are.
type settingsWriter struct {
	b   []byte
	has uint16
}

func addSetting[T any](w *settingsWriter, bit uint16, v *T, write func([]byte, T) []byte) {
	if v != nil {
		w.has |= bit
		w.b = write(w.b, *v)
	}
}

func (r *reader) subscriptionSettings() cmq.SubscriptionSettings {
	has := uint16(r.byte()) | uint16(r.byte())<<8
	return cmq.SubscriptionSettings{
		Protocol:    given(has&hasProtocol != 0, func() cmq.Protocol { return cmq.Protocol(r.string()) }),
		Endpoint:    given(has&hasEndpoint != 0, r.string),
		Strategy:    given(has&hasStrategy != 0, func() cmq.Strategy { return cmq.Strategy(r.string()) }),
		Format:      given(has&hasFormat != 0, func() cmq.Format { return cmq.Format(r.string()) }),
		Tags:        given(has&hasTags != 0, func() []string { return r.strings("tags") }),
		Keys:        given(has&hasKeys != 0, func() []string { return r.strings("keys") }),
		Secret:      given(has&hasSecret != 0, r.string),
		Rate:        given(has&hasRate != 0, r.int),
		Concurrency: given(has&hasConcurrency != 0, r.int),
		Ordered:     given(has&hasOrdered != 0, r.bool),
		Paused:      given(has&hasPaused != 0, r.bool),
		DeadLetter:  given(has&hasSubscriptionDeadLetter != 0, r.string),
		CA:          given(has&hasCA != 0, func() string { return r.text(maxCertificates) }),
		Agent:       given(has&hasAgent != 0, r.string),
	}
}

// checkTopicSettings refuses what no door lets through and what would overflow here.
func checkTopicSettings(s *cmq.TopicSettings) *cmq.Error {
	switch {
	case s.MaxMsgSize != nil && (*s.MaxMsgSize < 0 || *s.MaxMsgSize > maxSeconds):
		return cmq.ErrParameterRange("maxMsgSize")
	case s.MsgRetentionSeconds != nil && (*s.MsgRetentionSeconds < 0 || *s.MsgRetentionSeconds > maxSeconds):
		return cmq.ErrParameterRange("msgRetentionSeconds")
	case s.Filter != nil && *s.Filter != cmq.FilterTags && *s.Filter != cmq.FilterKeys:
		return cmq.ErrParameterRange("filterType")
	}
	return nil
}

// checkSubscriptionSettings refuses what no door lets through and what could not be stored. Texts that are longer than
// the encoding takes do not get here.
func checkSubscriptionSettings(s *cmq.SubscriptionSettings) *cmq.Error {
	limits := cmq.DefaultLimits()
	switch {
	case s.Endpoint != nil && *s.Endpoint == "":
		return cmq.ErrEndpointFormat
	case s.Strategy != nil && *s.Strategy != cmq.BackoffRetry && *s.Strategy != cmq.ExponentialRetry:
		return cmq.ErrStrategy
	case s.Format != nil && *s.Format != cmq.FormatJSON && *s.Format != cmq.FormatSimplified && *s.Format != cmq.FormatCloudEvents:
		return cmq.ErrFormat
	case s.Tags != nil && len(*s.Tags) > limits.Tags:
		return cmq.ErrFilterTags
	case s.Keys != nil && len(*s.Keys) > limits.BindingKeys:
		return cmq.ErrBindingKeys
	case s.Rate != nil && (*s.Rate < 0 || *s.Rate > maxSeconds):
		return cmq.ErrParameterRange("rate")
	case s.Concurrency != nil && (*s.Concurrency < 0 || *s.Concurrency > maxSeconds):
		return cmq.ErrParameterRange("concurrency")
	}
	return nil
}
