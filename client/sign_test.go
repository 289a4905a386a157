package client

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// The values were computed by another program from the published description.
func TestSignatureExamples(t *testing.T) {
	const id, key = "AKIDexample0000000000000000000000001", "0123456789abcdefSecret"
	params := []Param{{"msgBody.2", "你好"}, {"queueName", "orders"}, {"msgBody.1", "hello world & =+"}, {"delaySeconds", "0"}}
	s := newSigner(id, key, "")
	s.program = "SDK_Example_1.0"
	form := s.form(nil, "127.0.0.1:8080", "/v2/index.php", "BatchSendMessage", params, 1700000000, 11886)
	got, err := url.ParseQuery(string(form))
	require.NoError(t, err)
	require.Equal(t, "你好", got.Get("msgBody.2"))
	require.Equal(t, "hello world & =+", got.Get("msgBody.1"))
	require.Contains(t, string(form), "msgBody.1=hello+world+%26+%3D%2B&msgBody.2=%E4%BD%A0%E5%A5%BD&queueName=orders&Signature=")
	require.Equal(t, "4cge8GKYSwDF/g0GNeqZYYa+0nrmNVrCI0EZcTeA9TA=", got.Get("Signature"))
}

// Byte order, not number order: msgBody.10 comes before msgBody.2.
func TestParametersAreSortedByBytes(t *testing.T) {
	params := []Param{{"msgBody.2", "b"}, {"msgBody.10", "j"}, {"msgBody.1", "a"}, {"Zone", "z"}}
	form := string(newSigner("id", "key", "token").form(nil, "h", "/", "A", params, 1, 2))
	last := -1
	for _, name := range []string{"Action=", "&Token=token", "&Zone=", "&msgBody.1=", "&msgBody.10=", "&msgBody.2=", "&Signature="} {
		at := strings.Index(form, name)
		require.Greater(t, at, last, name)
		last = at
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("hello world & =+你好\x00\xff~*")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := url.QueryUnescape(string(appendEscaped(nil, s)))
		if err != nil || got != s {
			t.Fatalf("%q became %q, %v", s, got, err)
		}
	})
}

// Whatever comes, the scanner does not panic, and where encoding/json finds a delivery it finds the same one.
func FuzzReply(f *testing.F) {
	f.Add(`{"code":0,"message":"","requestId":"1","msgBody":"a\"b\\","msgId":"5","receiptHandle":"6","x":[1,{},[],null,-1.5e3,true]}`)
	f.Add(`{"code":6010,"errorList":[{"code":4430,"message":"(1)x","receiptHandle":"1"}]}`)
	f.Add(`{"a":"\\\\"}`)
	f.Fuzz(func(t *testing.T, s string) {
		var r reply
		err := r.decode("A", []byte(s))
		var want map[string]any
		if err != nil || json.Unmarshal([]byte(s), &want) != nil || !utf8.ValidString(s) || strings.Contains(s, `\u`) {
			return
		}
		body, _ := want["msgBody"].(string)
		handle, _ := want["receiptHandle"].(string)
		if handle != "" && (len(r.messages) == 0 || r.messages[len(r.messages)-1].Body != body) {
			t.Fatalf("%q gave %+v", s, r.messages)
		}
	})
}
