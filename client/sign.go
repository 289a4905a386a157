package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Param is one parameter of an action, for example {"queueName", "orders"}.
type Param struct{ Name, Value string }

// signer makes signed forms for one key. Safe for concurrent use.
type signer struct {
	id, token string
	program   string    // RequestClient: name and version of the SDK
	states    sync.Pool // *signState
}

// signState is what is reused from one request to the next.
type signState struct {
	mac    hash.Hash
	text   []byte // string to sign
	params []Param
	sum    []byte
}

func newSigner(id, key, token string) *signer {
	s := &signer{id: id, token: token, program: requestClient}
	s.states.New = func() any { return &signState{mac: hmac.New(sha256.New, []byte(key))} }
	return s
}

// form appends the signed, url-encoded parameters to dst. The string that is signed is
//
//	"POST" host path "?" name=value&name=value…     sorted by name in byte order, values not encoded
//
// and its HMAC-SHA256 goes, in Base64, into the parameter Signature.
func (s *signer) form(dst []byte, host, path, action string, params []Param, now int64, nonce uint32) []byte {
	st := s.states.Get().(*signState)
	defer s.states.Put(st)
	st.params = append(st.params[:0],
		Param{"Action", action},
		Param{"Nonce", strconv.FormatUint(uint64(nonce), 10)},
		Param{"RequestClient", s.program},
		Param{"SecretId", s.id},
		Param{"SignatureMethod", "HmacSHA256"},
		Param{"Timestamp", strconv.FormatInt(now, 10)})
	if s.token != "" {
		st.params = append(st.params, Param{"Token", s.token})
	}
	st.params = append(st.params, params...)
	slices.SortFunc(st.params, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })

	st.text = append(append(append(append(st.text[:0], "POST"...), host...), path...), '?')
	for i, p := range st.params {
		if i > 0 {
			st.text = append(st.text, '&')
			dst = append(dst, '&')
		}
		st.text = append(append(append(st.text, p.Name...), '='), p.Value...)
		dst = appendEscaped(append(append(dst, p.Name...), '='), p.Value)
	}
	st.mac.Reset()
	st.mac.Write(st.text)
	st.sum = st.mac.Sum(st.sum[:0])
	dst = append(dst, "&Signature="...)
	clear(st.params)
	return appendEscaped(dst, base64.StdEncoding.EncodeToString(st.sum))
}

// plain says which bytes stand for themselves in application/x-www-form-urlencoded.
var plain = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.*") {
		t[c] = true
	}
	return t
}()

// appendEscaped appends s form-encoded.
func appendEscaped(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for len(s) > 0 {
		n := 0
		for n < len(s) && plain[s[n]] {
			n++
		}
		dst = append(dst, s[:n]...)
		if n == len(s) {
			break
		}
		if c := s[n]; c == ' ' {
			dst = append(dst, '+')
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
		s = s[n+1:]
	}
	return dst
}
