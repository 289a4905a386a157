package auth

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

type keyMap map[string]*cmq.AccessKey

func (m keyMap) Key(id string) (*cmq.AccessKey, bool) {
	k, ok := m[id]
	return k, ok
}

const (
	exampleID  = "AKIDexample0000000000000000000000001"
	officialID = "AKIDPcYDclDJCn8D0Xypa4f3pKYUCVYLn3zT"
)

func testKeys() keyMap {
	return keyMap{
		exampleID:  {ID: exampleID, Secret: "0123456789abcdefSecret", Owner: "alice", Enabled: true},
		officialID: {ID: officialID, Secret: "pPgfLipfEXZ7VcRzhAMIyPaU7UbQyFFx", Owner: "tencent", Enabled: true},
		"off":      {ID: "off", Secret: "0123456789abcdefSecret", Owner: "bob"},
	}
}

// request makes a Request from "name=value" items.
func request(method, host, path string, items ...string) *Request {
	r := &Request{Method: method, Host: host, Path: path}
	for _, item := range items {
		name, value, _ := strings.Cut(item, "=")
		r.Params = append(r.Params, Param{[]byte(name), []byte(value)})
	}
	Sort(r.Params)
	return r
}

func form(t testing.TB, encoded string) []string {
	t.Helper()
	values, err := url.ParseQuery(encoded)
	if err != nil {
		t.Fatal(err)
	}
	var items []string
	for name, list := range values {
		items = append(items, name+"="+list[0])
	}
	return items
}

const (
	local  = "127.0.0.1:8080"
	batchA = "Action=BatchSendMessage&Nonce=11886&RequestClient=SDK_Example_1.0&SecretId=" + exampleID + "&SignatureMethod=HmacSHA1&Timestamp=1700000000&delaySeconds=0&msgBody.1=hello+world+%26+%3D%2B&msgBody.2=%E4%BD%A0%E5%A5%BD&queueName=orders"
)

// TestWorkedExamples checks the examples A to E of the fact sheet's section 1.4.
func TestWorkedExamples(t *testing.T) {
	batchB := strings.Replace(batchA, "HmacSHA1", "HmacSHA256", 1)
	for _, c := range []struct{ name, method, host, path, form, signature, owner string }{
		{"A", "POST", local, "/v2/index.php", batchA, "pYsI1AyxTKT+HDbVCQLBTMOkUZ8=", "alice"},
		{"B", "POST", local, "/v2/index.php", batchB, "4cge8GKYSwDF/g0GNeqZYYa+0nrmNVrCI0EZcTeA9TA=", "alice"},
		{"C", "GET", local, "/", batchB + "&Token=tmp_token_1", "lcSHXQFZi9Qa2w38EmF1e2cM1hIL91JBfNnor7+k0Y4=", "alice"},
		{"D", "POST", local, "/v2/index.php", "Action=SendMessage&Nonce=11886&RequestClient=SDK_Python_1.3&SecretId=" + exampleID + "&SignatureMethod=HmacSHA1&Timestamp=1700000000&delaySeconds=0&msgBody=%40at&queueName=orders", "OoEpA83WX5u9KtVvbCMNUgpX7pc=", "alice"},
		{"E", "POST", "cmq-queue-gz.api.tencentyun.com", "/v2/index.php", "Action=SendMessage&Nonce=2889712707386595659&RequestClient=SDK_Python_1.3&SecretId=" + officialID + "&SignatureMethod=HmacSHA1&Timestamp=1534154812&clientRequestId=1231231231&delaySeconds=0&msgBody=msg&queueName=test1", "C16WEtEXsD5v5tnaUMLAbZewXhI=", "tencent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request(c.method, c.host, c.path, append(form(t, c.form), "Signature="+c.signature)...)
			v := NewVerifier(Config{Keys: testKeys()})
			for range 3 { // the second time the hash states are used ones
				if owner, err := v.Verify(r); err != nil || owner != c.owner {
					t.Fatalf("owner %q, error %v", owner, err)
				}
			}
		})
	}
}

func TestStringToSign(t *testing.T) {
	r := request("POST", local, "/", "b_c=1_2", "B=", "msgBody.2=二", "msgBody.10=&=", "Signature=x", "a=")
	tail, _ := appendTail(nil, r.Params, false)
	if want := "?B=&a=&b.c=1_2&msgBody.10=&=&msgBody.2=二"; string(tail) != want {
		t.Errorf("%s, want %s", tail, want)
	}
	if tail, _ := appendTail(nil, nil, false); string(tail) != "?" {
		t.Errorf("no parameters: %s", tail)
	}
}

// signed makes a request of the example key that Verify accepts, signed for the given host and path.
func signed(method, host, path string, items ...string) *Request {
	items = append([]string{"Action=ListQueue", "Timestamp=1700000000", "Nonce=1", "SecretId=" + exampleID}, items...)
	r := request(method, host, path, items...)
	signature := Sign(r, "0123456789abcdefSecret", false)
	r.Params = append(r.Params, Param{[]byte("Signature"), []byte(signature)})
	Sort(r.Params)
	return r
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		name                           string
		signedHost, signedPath, method string
		host, path                     string
		want                           bool
	}{
		{"as sent", local, "/x/../y", "POST", local, "/x/../y", true},
		{"signed root, sent classic", local, "/", "POST", local, "/v2/index.php", true},
		{"signed classic, sent root", local, "/v2/index.php", "GET", local, "/", true},
		{"signed classic, sent doubled", local, "/v2/index.php", "POST", local, "/v2/index.php/v2/index.php", true},
		{"other path", local, "/other", "POST", local, "/", false},
		{"default port signed, not sent", "h:80", "/", "POST", "h", "/", true},
		{"default TLS port signed, not sent", "h:443", "/", "POST", "h", "/", true},
		{"default port sent, not signed", "h", "/", "POST", "h:80", "/", true},
		{"default TLS port sent, not signed", "h", "/", "POST", "h:443", "/", true},
		{"other port sent, not signed", "h", "/", "POST", "h:8080", "/", false},
		{"alias", "cmq.example.com", "/", "POST", "10.0.0.1:7670", "//", true},
		{"alias with port", "Upper.example.com:99", "/", "POST", "upper.example.com:99", "//", true},
		{"foreign host", "evil.example.com", "/", "POST", local, "/", false},
		{"IPv6", "[::1]:80", "/", "POST", "[::1]", "/", true},
		{"bare IPv6 with port", "[::1]", "/", "POST", "[::1]:443", "/", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := NewVerifier(Config{Keys: testKeys(), Aliases: []string{"cmq.example.com", "Upper.example.com:99"}})
			r := signed(c.method, c.signedHost, c.signedPath)
			r.Host, r.Path = c.host, c.path
			owner, err := v.Verify(r)
			if c.want != (err == nil && owner == "alice") {
				t.Errorf("owner %q, error %v", owner, err)
			}
		})
	}
}

func TestAtRule(t *testing.T) {
	for _, c := range []struct {
		name, method, hidden string
		want                 bool
	}{
		{"body", "POST", "msgBody=@all", true},
		{"batch body", "POST", "msgBody.12=@", true},
		{"tag", "POST", "msgTag.1=@t", true},
		{"filter tag", "POST", "filterTag.1=@t", true},
		{"binding key", "POST", "bindingKey.1=@t", true},
		{"binding key, misspelt", "POST", "bindindKey.1=@t", true},
		{"routing key", "POST", "routingKey=@t", true},
		{"not with GET", "GET", "msgBody=@all", false},
		{"not without @", "POST", "msgBody=all", false},
		{"not empty", "POST", "msgBody=", false},
		{"not a queue", "POST", "queueName=@q", false},
		{"not a search", "POST", "searchWord=@q", false},
		{"not a longer name", "POST", "msgBodyX=@q", false},
		{"not a handle", "POST", "receiptHandle.1=@q", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := NewVerifier(Config{Keys: testKeys()})
			r := signed(c.method, local, "/", "queueName=q")
			name, value, _ := strings.Cut(c.hidden, "=")
			r.Params = append(r.Params, Param{[]byte(name), []byte(value)})
			Sort(r.Params)
			if _, err := v.Verify(r); (err == nil) != c.want {
				t.Errorf("error %v", err)
			}
			if _, err := v.Verify(signed(c.method, local, "/", c.hidden)); err != nil {
				t.Errorf("when it is signed: %v", err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	good := signed("POST", local, "/", "SignatureMethod=HmacSHA1")
	change := func(name, value string) *Request {
		r := *good
		r.Params = nil
		for _, p := range good.Params {
			if string(p.Name) != name {
				r.Params = append(r.Params, p)
			}
		}
		if value != "absent" {
			r.Params = append(r.Params, Param{[]byte(name), []byte(value)})
		}
		Sort(r.Params)
		return &r
	}
	get := *good
	get.Method = "GET"
	off := change("SecretId", "off")
	offSigned := change("SecretId", "off")
	for i := range offSigned.Params {
		if string(offSigned.Params[i].Name) == "Signature" {
			offSigned.Params[i].Value = []byte(Sign(offSigned, "0123456789abcdefSecret", false))
		}
	}
	for _, c := range []struct {
		name string
		r    *Request
		want error
	}{
		{"good", good, nil},
		{"no Timestamp", change("Timestamp", "absent"), cmq.ErrParameterMissing("Timestamp")},
		{"no Nonce", change("Nonce", "absent"), cmq.ErrParameterMissing("Nonce")},
		{"no SecretId", change("SecretId", "absent"), cmq.ErrParameterMissing("SecretId")},
		{"empty SecretId", change("SecretId", ""), cmq.ErrParameterMissing("SecretId")},
		{"no Signature", change("Signature", "absent"), cmq.ErrParameterMissing("Signature")},
		{"empty Signature", change("Signature", ""), cmq.ErrSignature},
		{"other Signature", change("Signature", "pYsI1AyxTKT+HDbVCQLBTMOkUZ8="), cmq.ErrSignature},
		{"long Signature", change("Signature", strings.Repeat("A", 9999)), cmq.ErrSignature},
		{"text Timestamp", change("Timestamp", "now"), cmq.ErrParameterType("Timestamp")},
		{"empty Timestamp", change("Timestamp", ""), cmq.ErrParameterType("Timestamp")},
		{"negative Timestamp", change("Timestamp", "-1"), cmq.ErrParameterType("Timestamp")},
		{"huge Timestamp", change("Timestamp", "18446744073709551616"), cmq.ErrParameterRange("Timestamp")},
		{"text Nonce", change("Nonce", "1e3"), cmq.ErrParameterType("Nonce")},
		{"unknown id", change("SecretId", "AKIDnobody"), cmq.ErrKeyUnknown},
		{"long id", change("SecretId", strings.Repeat("A", 9999)), cmq.ErrKeyUnknown},
		{"key of another", change("SecretId", officialID), cmq.ErrSignature},
		{"key switched off, wrong signature", off, cmq.ErrSignature},
		{"key switched off", offSigned, cmq.ErrKeyDisabled},
		{"SHA-256 claimed, SHA-1 used", change("SignatureMethod", "HmacSHA256"), cmq.ErrSignature},
		{"other method", &get, cmq.ErrSignature},
		{"other action", change("Action", "DeleteQueue"), cmq.ErrSignature},
		{"added parameter", change("extra", "1"), cmq.ErrSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewVerifier(Config{Keys: testKeys()}).Verify(c.r)
			if (err == nil) != (c.want == nil) || err != nil && err.Error() != c.want.Error() {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestSignatureMethods(t *testing.T) {
	for method, sha256 := range map[string]bool{"HmacSHA1": false, "HmacSHA256": true, "sha256": true, "sha1": false, "": false, "hmacsha256": false, "none": false} {
		r := request("POST", local, "/", "Timestamp=1", "Nonce=1", "SecretId="+exampleID, "SignatureMethod="+method)
		signature := Sign(r, "0123456789abcdefSecret", sha256)
		r.Params = append(r.Params, Param{[]byte("Signature"), []byte(signature)})
		Sort(r.Params)
		if _, err := NewVerifier(Config{Keys: testKeys()}).Verify(r); err != nil {
			t.Errorf("%q: %v", method, err)
		}
	}
}

func TestWindow(t *testing.T) {
	now := time.Unix(1700000000, 0)
	v := NewVerifier(Config{Keys: testKeys(), Window: DefaultWindow, Clock: func() time.Time { return now }})
	for shift, want := range map[time.Duration]bool{0: true, 7200 * time.Second: true, 7201 * time.Second: false, -7200 * time.Second: true, -7201 * time.Second: false} {
		now = time.Unix(1700000000, 0).Add(shift)
		if _, err := v.Verify(signed("POST", local, "/")); (err == nil) != want || err != nil && err != cmq.ErrSignature {
			t.Errorf("%v: %v", shift, err)
		}
	}
	if _, err := v.Verify(request("POST", local, "/", "Timestamp=18446744073709551615", "Nonce=1", "SecretId=x", "Signature=x")); err != cmq.ErrSignature {
		t.Errorf("last time stamp: %v", err)
	}
}

// TestReplayIsAllowed: clients repeat nonces within a second, so equal requests must both pass.
func TestReplayIsAllowed(t *testing.T) {
	v := NewVerifier(Config{Keys: testKeys()})
	for range 2 {
		if _, err := v.Verify(signed("POST", local, "/")); err != nil {
			t.Error(err)
		}
	}
}

func TestKeyChanges(t *testing.T) {
	keys := testKeys()
	v := NewVerifier(Config{Keys: keys})
	r := signed("POST", local, "/")
	steps := []struct {
		key  *cmq.AccessKey
		want *cmq.Error
	}{
		{keys[exampleID], nil},
		{&cmq.AccessKey{ID: exampleID, Secret: "new", Enabled: true}, cmq.ErrSignature},
		{&cmq.AccessKey{ID: exampleID, Secret: "0123456789abcdefSecret"}, cmq.ErrKeyDisabled},
		{nil, cmq.ErrKeyUnknown},
		{&cmq.AccessKey{ID: exampleID, Secret: "0123456789abcdefSecret", Enabled: true}, nil},
	}
	for i, s := range steps {
		if keys[exampleID] = s.key; s.key == nil {
			delete(keys, exampleID)
		}
		if _, err := v.Verify(r); err != s.want {
			t.Errorf("step %d: %v", i, err)
		}
	}
}

func TestAppIDMode(t *testing.T) {
	r := request("POST", local, "/", "Action=ListQueue", "appId=7")
	if _, err := NewVerifier(Config{Keys: testKeys()}).Verify(r); err == nil || err.Module != 10390 {
		t.Errorf("off by default: %v", err)
	}
	v := NewVerifier(Config{Keys: testKeys(), AppIDOwner: "lab"})
	if owner, err := v.Verify(r); err != nil || owner != "lab" {
		t.Errorf("switched on: %q %v", owner, err)
	}
	for _, items := range [][]string{{"Action=ListQueue"}, {"appId=7", "SecretId=" + exampleID}, {"appId=7", "Signature=x"}} {
		if _, err := v.Verify(request("POST", local, "/", items...)); err == nil {
			t.Errorf("%v passed unsigned", items)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("POST", local, "/v2/index.php", "msgBody", "@x", "a_b", "1", false)
	f.Add("GET", "h:80", "//", "msgBody.1", "", "Token", "t", true)
	f.Fuzz(func(t *testing.T, method, host, path, n1, v1, n2, v2 string, sha256 bool) {
		signatureMethod := "HmacSHA1"
		if sha256 {
			signatureMethod = "HmacSHA256"
		}
		r := request(method, host, path, "Timestamp=1700000000", "Nonce=1", "SecretId="+exampleID, "SignatureMethod="+signatureMethod)
		for _, p := range []Param{{[]byte(n1), []byte(v1)}, {[]byte(n2), []byte(v2)}} {
			if _, taken := Find(r.Params, string(p.Name)); !taken && string(p.Name) != "Signature" && string(p.Name) != "appId" {
				r.Params = append(r.Params, p)
			}
		}
		Sort(r.Params)
		signature := Sign(r, "0123456789abcdefSecret", sha256)
		r.Params = append(r.Params, Param{[]byte("Signature"), []byte(signature)})
		Sort(r.Params)
		v := NewVerifier(Config{Keys: testKeys()})
		if _, err := v.Verify(r); err != nil {
			t.Fatalf("own signature refused: %v", err)
		}
		for i := range r.Params {
			if string(r.Params[i].Name) == "Signature" {
				flipped := bytes.Clone(r.Params[i].Value)
				flipped[0] ^= 1
				r.Params[i].Value = flipped
			}
		}
		if _, err := v.Verify(r); err != cmq.ErrSignature {
			t.Fatalf("changed signature: %v", err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v := NewVerifier(Config{Keys: testKeys(), Window: 0})
	r := signed("POST", local, "/", "msgBody="+strings.Repeat("x", 1024), "queueName=orders", "SignatureMethod=HmacSHA1", "RequestClient=SDK_Python_1.3", "delaySeconds=0")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefuse is what a flood of forged requests costs.
func BenchmarkRefuse(b *testing.B) {
	for name, id := range map[string]string{"wrong signature": officialID, "unknown id": "AKIDnobody"} {
		b.Run(name, func(b *testing.B) {
			v := NewVerifier(Config{Keys: testKeys()})
			r := request("POST", local, "/", "Timestamp=1", "Nonce=1", "SecretId="+id, "Signature=pYsI1AyxTKT+HDbVCQLBTMOkUZ8=", "msgBody="+strings.Repeat("x", 1024))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(r); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}
