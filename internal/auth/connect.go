package auth

import (
	"crypto/subtle"
	"encoding/base64"

	"github.com/opencmq/cmq/internal/cmq"
)

// Session is what a connection has proved: that it knows the secret of a key.
type Session struct{ key *cmq.AccessKey }

// Owner is the account of the key.
func (s *Session) Owner() string { return s.key.Owner }

// KeyID is the id of the key.
func (s *Session) KeyID() string { return s.key.ID }

// Connect verifies the signature with which a client of the TCP protocol logs in (tcp-protocol.md 6): the HMAC of its
// client id, followed by the id of its key. There is no time stamp in it, so it is good for ever. The method is
// HmacSHA256 or sha256, everything else is HmacSHA1. Refusals are those of Verify for the same reasons: ErrKeyUnknown,
// ErrSignature, ErrKeyDisabled.
func (v *Verifier) Connect(secretID, clientID, signature, method []byte) (*Session, *cmq.Error) {
	keyed, known := v.lookup(secretID)
	sha256 := isSHA256(method)
	h := keyed.get(sha256)
	defer keyed.put(h, sha256)
	valid := subtle.ConstantTimeCompare(h.signParts(clientID, secretID), signature) == 1
	switch {
	case !known:
		return nil, v.unknown()
	case !valid:
		return nil, cmq.ErrSignature
	case !keyed.key.Enabled:
		return nil, cmq.ErrKeyDisabled
	}
	return &Session{keyed.key}, nil
}

// Holds reports whether the session's key is still the same and switched on. It is asked for every request.
func (v *Verifier) Holds(s *Session) bool {
	key, known := v.config.Keys.Key(s.key.ID)
	return known && (key == s.key || *key == *s.key)
}

func isSHA256(method []byte) bool {
	return string(method) == "HmacSHA256" || string(method) == "sha256"
}

// signParts signs two strings that follow each other; the text is valid until the next call.
func (h *hasher) signParts(first, second []byte) []byte {
	h.hash.Reset()
	h.hash.Write(first)
	h.hash.Write(second)
	return h.base64()
}

func (h *hasher) base64() []byte {
	sum := h.hash.Sum(h.sum[:0])
	n := base64.StdEncoding.EncodedLen(len(sum))
	base64.StdEncoding.Encode(h.text[:n], sum)
	return h.text[:n]
}

// SignConnect gives the signature with which a client logs in.
func SignConnect(clientID, secretID, secret string, sha256 bool) string {
	h := newKeyedHash("", &cmq.AccessKey{Secret: secret}).get(sha256)
	return string(h.signParts([]byte(clientID), []byte(secretID)))
}
