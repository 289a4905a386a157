package auth

import (
	"testing"

	"github.com/opencmq/cmq/internal/cmq"
)

// held are keys as a test holds them.
type held map[string]*cmq.AccessKey

func (h held) Key(id string) (*cmq.AccessKey, bool) { key, ok := h[id]; return key, ok }

// TestConnect: the signatures are those of the golden frames of tcp-protocol.md 10.
func TestConnect(t *testing.T) {
	const client, sha1Sum, sha256Sum = "10.1.2.3@DEFAULT", "7pPDNL/QSLnNe0hXmWoySZKCwl0=", "LxTiyaxol4ljEYKdvVWfl8cPWK07gWlXrHoL0qoqOdM="
	v := NewVerifier(Config{Keys: held{
		"AKIDtest": {ID: "AKIDtest", Secret: "testSecretKey", Owner: "me", Enabled: true},
		"AKIDoff":  {ID: "AKIDoff", Secret: "testSecretKey", Owner: "me"},
	}})
	for _, row := range []struct {
		id, client, signature, method string
		refusal                       *cmq.Error
	}{
		{"AKIDtest", client, sha1Sum, "HmacSHA1", nil},
		{"AKIDtest", client, sha1Sum, "sha1", nil},
		{"AKIDtest", client, sha1Sum, "", nil},
		{"AKIDtest", client, sha256Sum, "HmacSHA256", nil},
		{"AKIDtest", client, sha256Sum, "sha256", nil},
		{"AKIDtest", client, sha256Sum, "HmacSHA1", cmq.ErrSignature},
		{"AKIDtest", client, sha1Sum, "HmacSHA256", cmq.ErrSignature},
		{"AKIDtest", client + "x", sha1Sum, "HmacSHA1", cmq.ErrSignature},
		{"AKIDtest", client, "", "HmacSHA1", cmq.ErrSignature},
		{"AKIDelse", client, sha1Sum, "HmacSHA1", cmq.ErrKeyUnknown},
		{"AKIDoff", client, sha1Sum, "HmacSHA1", cmq.ErrSignature},
		{"AKIDoff", client, SignConnect(client, "AKIDoff", "testSecretKey", false), "HmacSHA1", cmq.ErrKeyDisabled},
	} {
		s, refusal := v.Connect([]byte(row.id), []byte(row.client), []byte(row.signature), []byte(row.method))
		if refusal != row.refusal || (s == nil) != (refusal != nil) || s != nil && (s.Owner() != "me" || s.KeyID() != row.id) {
			t.Errorf("%v: %v, %v", row, s, refusal)
		}
	}
	if got := SignConnect(client, "AKIDtest", "testSecretKey", true); got != sha256Sum {
		t.Errorf("signed %s", got)
	}
}

func TestSessionEndsWithItsKey(t *testing.T) {
	key := cmq.AccessKey{ID: "a", Secret: "s", Owner: "me", Enabled: true}
	keys := held{"a": &key}
	v := NewVerifier(Config{Keys: keys})
	s, refusal := v.Connect([]byte("a"), nil, []byte(SignConnect("", "a", "s", false)), nil)
	if refusal != nil || !v.Holds(s) {
		t.Fatal("session does not hold", refusal)
	}
	same := key
	keys["a"] = &same
	if !v.Holds(s) {
		t.Error("an equal key is another one")
	}
	for name, change := range map[string]func(*cmq.AccessKey){
		"secret": func(k *cmq.AccessKey) { k.Secret = "t" }, "account": func(k *cmq.AccessKey) { k.Owner = "you" }, "off": func(k *cmq.AccessKey) { k.Enabled = false },
	} {
		changed := key
		change(&changed)
		if keys["a"] = &changed; v.Holds(s) {
			t.Errorf("session holds although its key changed: %s", name)
		}
	}
	delete(keys, "a")
	if v.Holds(s) {
		t.Error("session of a removed key holds")
	}
}

// late are keys that are not loaded yet.
type late struct {
	held
	loaded bool
}

func (l *late) Loaded() bool { return l.loaded }

// TestKeysThatAreNotLoaded: a client of a node that is starting is told to come again, not that its key is wrong.
func TestKeysThatAreNotLoaded(t *testing.T) {
	keys := &late{held: held{}}
	v := NewVerifier(Config{Keys: keys})
	signed := []byte(SignConnect("c", "a", "s", false))
	for _, row := range []struct {
		loaded, there bool
		refusal       *cmq.Error
	}{{false, false, cmq.ErrThrottled}, {true, false, cmq.ErrKeyUnknown}, {true, true, nil}} {
		keys.loaded = row.loaded
		if row.there {
			keys.held["a"] = &cmq.AccessKey{ID: "a", Secret: "s", Owner: "me", Enabled: true}
		}
		if _, refusal := v.Connect([]byte("a"), []byte("c"), signed, nil); refusal != row.refusal {
			t.Errorf("connect, %v: %v", row, refusal)
		}
		if _, refusal := v.Verify(&Request{Params: []Param{{Name: []byte("Timestamp"), Value: []byte("1")}, {Name: []byte("Nonce"), Value: []byte("1")},
			{Name: []byte("SecretId"), Value: []byte("a")}, {Name: []byte("Signature"), Value: []byte("x")}}}); !row.there && refusal != row.refusal {
			t.Errorf("verify, %v: %v", row, refusal)
		}
	}
}
