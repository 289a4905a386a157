package access

import (
	"bytes"
	"unicode/utf8"

	"github.com/opencmq/cmq/internal/cmq"
)

// ReadPublication makes what a client publishes beside the bodies, in memory of its own. An empty key is none. It refuses
// with ErrMsgTags and, naming the parameter, as CheckTag and CheckKey do.
func ReadPublication(l *cmq.Limits, tags [][]byte, key []byte) (p cmq.Publication, refusal *cmq.Error) {
	if len(tags) > l.Tags {
		return p, cmq.ErrMsgTags
	}
	for _, tag := range tags {
		if refusal := CheckTag(l, "msgTag", tag); refusal != nil {
			return p, refusal
		}
	}
	if len(key) > 0 {
		if refusal := CheckKey(l, "routingKey", key); refusal != nil {
			return p, refusal
		}
	}
	return cmq.Publication{Tags: Texts(tags), RoutingKey: string(key)}, nil
}

// Texts copies a list; an empty one is nil.
func Texts(list [][]byte) []string {
	if len(list) == 0 {
		return nil
	}
	texts := make([]string, len(list))
	for i, b := range list {
		texts[i] = string(b)
	}
	return texts
}

// CheckTag refuses a tag of a message or subscription with ErrParameterRange that is empty, longer than the limit or no
// text.
func CheckTag(l *cmq.Limits, parameter string, tag []byte) *cmq.Error {
	if len(tag) == 0 || !isText(tag) || utf8.RuneCount(tag) > l.TagLength {
		return cmq.ErrParameterRange(parameter)
	}
	return nil
}

// CheckKey refuses a routing or binding key with ErrParameterRange that is empty, longer than the limit or no text, and
// with ErrDots if it has too many words.
func CheckKey(l *cmq.Limits, parameter string, key []byte) *cmq.Error {
	switch {
	case len(key) == 0 || len(key) > l.KeyLength || !isText(key):
		return cmq.ErrParameterRange(parameter)
	case bytes.Count(key, []byte(".")) > l.KeyDots:
		return cmq.ErrDots
	}
	return nil
}

// CheckBindingKey is CheckKey for a subscription's key. A wildcard that is only part of a word, as in "order*", is refused
// with ErrParameterRange: it would stand for itself, and match nothing its author meant.
func CheckBindingKey(l *cmq.Limits, parameter string, key []byte) *cmq.Error {
	if refusal := CheckKey(l, parameter, key); refusal != nil {
		return refusal
	}
	for word := range bytes.SplitSeq(key, []byte(".")) {
		if len(word) > 1 && bytes.ContainsAny(word, "*#") {
			return cmq.ErrParameterRange(parameter)
		}
	}
	return nil
}

// isText reports whether b is UTF-8 without control characters. Tags travel in a header of a delivery, which can have no
// others, and a tag is the same text for every reader.
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return utf8.Valid(b)
}
