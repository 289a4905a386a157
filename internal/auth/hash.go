package auth

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"hash"
	"sync"

	"github.com/opencmq/cmq/internal/cmq"
)

// keyedHash holds ready hash states of one key: starting an HMAC from its key costs two more blocks and several
// allocations, setting a used one back costs nothing.
type keyedHash struct {
	id     string // under which the key was found
	key    *cmq.AccessKey
	sha1   sync.Pool // *hasher
	sha256 sync.Pool
}

func newKeyedHash(id string, key *cmq.AccessKey) *keyedHash {
	secret := []byte(key.Secret)
	k := &keyedHash{id: id, key: key}
	k.sha1.New = func() any { return &hasher{hash: hmac.New(sha1.New, secret)} }
	k.sha256.New = func() any { return &hasher{hash: hmac.New(sha256.New, secret)} }
	return k
}

func (k *keyedHash) get(sha256 bool) *hasher {
	if sha256 {
		return k.sha256.Get().(*hasher)
	}
	return k.sha1.Get().(*hasher)
}

func (k *keyedHash) put(h *hasher, sha256 bool) {
	if sha256 {
		k.sha256.Put(h)
	} else {
		k.sha1.Put(h)
	}
}

// hasher signs strings with one key and one hash function.
type hasher struct {
	hash   hash.Hash
	prefix []byte
	sum    [sha256.Size]byte
	text   [44]byte // base64 of the longest sum
}

// sign gives the Base64 text of the signature; it is valid until the next call.
func (h *hasher) sign(method, host, path string, tail []byte) []byte {
	h.prefix = append(append(append(h.prefix[:0], method...), host...), path...)
	h.hash.Reset()
	h.hash.Write(h.prefix)
	h.hash.Write(tail)
	return h.base64()
}

// maxIDLength bounds the ids that are looked up at all.
const maxIDLength = 256

// lookup finds the key's hash states, or those of a key nobody has. Every request asks Keys, so a key that is
// changed or removed stops working at once.
func (v *Verifier) lookup(id []byte) (keyed *keyedHash, known bool) {
	if len(id) > maxIDLength {
		return v.dummy, false
	}
	kept := v.kept(id)
	if kept == nil {
		return v.first(string(id))
	}
	key, known := v.config.Keys.Key(kept.id)
	switch {
	case !known:
		v.forget(kept.id)
		return v.dummy, false
	case kept.key == key || *kept.key == *key:
		return kept, true
	}
	return v.keep(kept.id, key), true
}

// kept gives the hash states that are there; nil: none.
func (v *Verifier) kept(id []byte) *keyedHash {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.keyed[string(id)]
}

// first is lookup of an id of which nothing is kept.
func (v *Verifier) first(id string) (keyed *keyedHash, known bool) {
	key, known := v.config.Keys.Key(id)
	if !known {
		return v.dummy, false
	}
	return v.keep(id, key), true
}

func (v *Verifier) keep(id string, key *cmq.AccessKey) *keyedHash {
	keyed := newKeyedHash(id, key)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keyed[id] = keyed
	return keyed
}

func (v *Verifier) forget(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.keyed, id)
}

// Sign gives the signature a client puts on the request: what Verify accepts. Parameters must be sorted; one
// called Signature is passed over.
func Sign(r *Request, secret string, sha256 bool) string {
	tail, _ := appendTail(nil, r.Params, false)
	h := newKeyedHash("", &cmq.AccessKey{Secret: secret}).get(sha256)
	return string(h.sign(r.Method, r.Host, r.Path, tail))
}
