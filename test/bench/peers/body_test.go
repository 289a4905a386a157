package main

import (
	"testing"
	"time"
	"unicode/utf8"
)

func TestStampComesBack(t *testing.T) {
	b := (&Load{Size: 100}).newBody()
	at := time.Unix(1_800_000_000, 123_456_789)
	stamp(b, 0xfedcba9876543210, 42, at)
	producer, number, sent := stamped(b)
	if producer != 0xfedcba9876543210 || number != 42 || !sent.Equal(at) {
		t.Errorf("got %x, %d, %v", producer, number, sent)
	}
	if !utf8.Valid(b) {
		t.Errorf("the body is no text: %q", b)
	}
}
