package main

import (
	"math/rand"
	"time"
)

// A body is text, because that is what every system and protocol takes: who sent it, its number and when, as hexadecimal digits,
// and then random letters.
//
//	0               16              32              48
//	+---------------+---------------+---------------+---------
//	| producer      | number        | Unix ns       | letters
//	+---------------+---------------+---------------+---------
const (
	headSize = 48
	letters  = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

func (l *Load) newBody() []byte {
	if l.noise == nil {
		l.noise = make([]byte, 2<<20)
		rand.New(rand.NewSource(1)).Read(l.noise)
		for i, b := range l.noise {
			l.noise[i] = letters[b%64]
		}
	}
	b := make([]byte, l.Size)
	copy(b, l.noise[rand.Intn(len(l.noise)-l.Size):])
	return b
}

// stamp writes the head of a body.
func stamp(b []byte, producer, number uint64, at time.Time) {
	putHex(b, producer)
	putHex(b[16:], number)
	putHex(b[32:], uint64(at.UnixNano()))
}

// stamped reads the head of a body.
func stamped(b []byte) (producer, number uint64, at time.Time) {
	return hexOf(b), hexOf(b[16:]), time.Unix(0, int64(hexOf(b[32:])))
}

func putHex(b []byte, v uint64) {
	for i := 15; i >= 0; i-- {
		b[i] = "0123456789abcdef"[v&15]
		v >>= 4
	}
}

func hexOf(b []byte) (v uint64) {
	for _, d := range b[:16] {
		if d -= '0'; d > 9 {
			d -= 'a' - '0' - 10
		}
		v = v<<4 | uint64(d)
	}
	return v
}
