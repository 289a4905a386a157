package auth

import (
	"crypto/subtle"
	"strconv"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Keys finds access keys. The value it gives must not change afterwards; a changed key is a new value.
type Keys interface {
	Key(id string) (*cmq.AccessKey, bool)
}

// Loading is implemented by Keys that are not there from the beginning. As long as Loaded reports false nobody is told
// that a key does not exist, which would make clients give up, but to come again.
type Loading interface {
	Loaded() bool
}

// unknown is the refusal of an id that has no key.
func (v *Verifier) unknown() *cmq.Error {
	if keys, ok := v.config.Keys.(Loading); ok && !keys.Loaded() {
		return cmq.ErrThrottled
	}
	return cmq.ErrKeyUnknown
}

// Config of a Verifier.
type Config struct {
	Keys   Keys
	Window time.Duration    // how far a time stamp may be from Clock, both ways; 0: not checked
	Clock  func() time.Time // time.Now if nil

	// Aliases are further hosts ("name" or "name:port") clients may have been configured with, for servers
	// behind a proxy that changes the Host header.
	Aliases []string

	// AppIDOwner is the account of unsigned requests with the parameter appId, which the Go client sends when it
	// has neither id nor key ("private deployment"). Empty: such requests are refused like any unsigned one.
	AppIDOwner string
}

// DefaultWindow is how far apart the clocks of client and server may be (http-api.md 1.5).
const DefaultWindow = 2 * time.Hour

// Request is what the signature covers.
type Request struct {
	Method string  // "GET" or "POST"
	Host   string  // the Host header
	Path   string  // as on the request line, undecoded, without the query
	Params []Param // in the order of Sort, without duplicates
}

// Verifier verifies signatures. It may be used by many goroutines.
type Verifier struct {
	config Config
	mu     sync.RWMutex
	keyed  map[string]*keyedHash // by key id, only of keys that existed when last looked up
	dummy  *keyedHash
	tails  sync.Pool // *[]byte
}

// NewVerifier makes a Verifier.
func NewVerifier(config Config) *Verifier {
	if config.Clock == nil {
		config.Clock = time.Now
	}
	return &Verifier{
		config: config,
		keyed:  make(map[string]*keyedHash),
		dummy:  newKeyedHash("", &cmq.AccessKey{Secret: "no request is signed with this"}),
		tails:  sync.Pool{New: func() any { return new([]byte) }},
	}
}

// Verify gives the account that signed the request. Refusals, in the order of the checks:
//
//	ErrParameterMissing  Timestamp, Nonce, SecretId or Signature is not there (an empty SecretId is no id)
//	ErrParameterType     Timestamp or Nonce is not an unsigned decimal number
//	ErrParameterRange    Timestamp does not fit 64 bits
//	ErrSignature         Timestamp is outside the window
//	ErrKeyUnknown        no such SecretId; ErrThrottled if the keys are not loaded yet
//	ErrSignature         the signature is not that of the key
//	ErrKeyDisabled       it is, but the key is switched off
//
// A request of an unknown id costs as many hashes as one with a wrong signature.
func (v *Verifier) Verify(r *Request) (owner string, refusal *cmq.Error) {
	c, refusal := v.parseCommon(r.Params)
	if refusal != nil {
		return "", refusal
	}
	if c.unsigned {
		return v.config.AppIDOwner, nil
	}
	if !v.inWindow(c.timestamp) {
		return "", cmq.ErrSignature
	}
	keyed, known := v.lookup(c.secretID)
	valid := v.matches(r, keyed, &c)
	switch {
	case !known:
		return "", v.unknown()
	case !valid:
		return "", cmq.ErrSignature
	case !keyed.key.Enabled:
		return "", cmq.ErrKeyDisabled
	}
	return keyed.key.Owner, nil
}

// common are the parameters that every signed request carries.
type common struct {
	timestamp uint64
	secretID  []byte
	signature []byte
	sha256    bool
	unsigned  bool // appId mode
}

func (v *Verifier) parseCommon(params []Param) (c common, refusal *cmq.Error) {
	var timestamp, nonce []byte
	var appID bool
	for i := range params {
		p := &params[i]
		switch string(p.Name) {
		case "Timestamp":
			timestamp = present(p.Value)
		case "Nonce":
			nonce = present(p.Value)
		case "SecretId":
			c.secretID = p.Value
		case "Signature":
			c.signature = present(p.Value)
		case "SignatureMethod":
			c.sha256 = isSHA256(p.Value)
		case "appId":
			appID = true
		}
	}
	if appID && v.config.AppIDOwner != "" && len(c.secretID) == 0 && c.signature == nil {
		c.unsigned = true
		return c, nil
	}
	if c.timestamp, refusal = decimal("Timestamp", timestamp); refusal != nil {
		return c, refusal
	}
	switch {
	case nonce == nil:
		return c, cmq.ErrParameterMissing("Nonce")
	case !digits(nonce):
		return c, cmq.ErrParameterType("Nonce")
	case len(c.secretID) == 0:
		return c, cmq.ErrParameterMissing("SecretId")
	case c.signature == nil:
		return c, cmq.ErrParameterMissing("Signature")
	}
	return c, nil
}

// present makes an empty value differ from one that is not there, which is nil.
func present(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

func decimal(name string, text []byte) (uint64, *cmq.Error) {
	switch {
	case text == nil:
		return 0, cmq.ErrParameterMissing(name)
	case !digits(text):
		return 0, cmq.ErrParameterType(name)
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return 0, cmq.ErrParameterRange(name)
	}
	return n, nil
}

func digits(text []byte) bool {
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(text) > 0
}

func (v *Verifier) inWindow(timestamp uint64) bool {
	if v.config.Window == 0 {
		return true
	}
	const latest = 1 << 40 // seconds; beyond it the subtraction below could overflow
	if timestamp > latest {
		return false
	}
	apart := v.config.Clock().Unix() - int64(timestamp)
	window := int64(v.config.Window / time.Second)
	return -window <= apart && apart <= window
}

// matches reports whether one of the strings the client may have signed gives its signature.
//
// The Python and PHP clients leave every parameter whose value begins with '@' out of the string to sign of a
// POST, yet send it. So if nothing matches, the strings without such values are tried, but only contents of
// messages, tags and keys may be missing from them: these are then not protected by the signature.
func (v *Verifier) matches(r *Request, keyed *keyedHash, c *common) bool {
	buffer := v.tails.Get().(*[]byte)
	defer v.putTail(buffer)
	h := keyed.get(c.sha256)
	defer keyed.put(h, c.sha256)

	var tail []byte
	try := func(host, path string) bool {
		return subtle.ConstantTimeCompare(h.sign(r.Method, host, path, tail), c.signature) == 1
	}
	tail, _ = appendTail((*buffer)[:0], r.Params, false)
	*buffer = tail
	if candidates(r, v.config.Aliases, try) {
		return true
	}
	if r.Method != "POST" {
		return false
	}
	tail, skipped := appendTail((*buffer)[:0], r.Params, true)
	*buffer = tail
	return skipped && candidates(r, v.config.Aliases, try)
}

// maxPooledTail keeps the rare large request from staying in the pool for ever.
const maxPooledTail = 256 << 10

func (v *Verifier) putTail(buffer *[]byte) {
	if cap(*buffer) <= maxPooledTail {
		v.tails.Put(buffer)
	}
}
