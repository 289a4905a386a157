package client_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
)

// The bubbles of synctest begin at this time. The signature was computed with:
//
//	printf '946684800\n000102030405060708090a0b0c0d0e0f\nhello' | openssl dgst -sha256 -hmac s3cret
const (
	pushTime      = "946684800"
	pushNonce     = "000102030405060708090a0b0c0d0e0f"
	pushSignature = "sha256=19d7ec11e3fcb9d069549d1728824abcd913aefad629cdeb6ce249443b645863"
)

func pushHeader(change func(http.Header)) http.Header {
	h := http.Header{}
	h.Set("x-cmq-push-timestamp", pushTime)
	h.Set("x-cmq-push-nonce", pushNonce)
	h.Set("x-cmq-push-signature", pushSignature)
	if change != nil {
		change(h)
	}
	return h
}

func TestVerifyPush(t *testing.T) {
	set := func(name, value string) func(http.Header) { return func(h http.Header) { h.Set(name, value) } }
	del := func(name string) func(http.Header) { return func(h http.Header) { h.Del(name) } }
	rows := map[string]struct {
		change  func(http.Header)
		body    string
		window  time.Duration
		after   time.Duration
		secrets []string
		want    error
	}{
		"good":                        {body: "hello", secrets: []string{"s3cret"}},
		"one of two secrets":          {body: "hello", secrets: []string{"new", "s3cret"}},
		"at the end of the window":    {body: "hello", secrets: []string{"s3cret"}, after: 5 * time.Minute},
		"after the window":            {body: "hello", secrets: []string{"s3cret"}, after: 5*time.Minute + 1, want: client.ErrPushTime},
		"after a window of a second":  {body: "hello", secrets: []string{"s3cret"}, window: time.Second, after: 2 * time.Second, want: client.ErrPushTime},
		"another body":                {body: "hello!", secrets: []string{"s3cret"}, want: client.ErrPushSignature},
		"another secret":              {body: "hello", secrets: []string{"secret"}, want: client.ErrPushSignature},
		"no secret":                   {body: "hello", want: client.ErrPushSignature},
		"an empty secret":             {body: "hello", secrets: []string{""}, want: client.ErrPushSignature},
		"another nonce":               {change: set("x-cmq-push-nonce", "00"), body: "hello", secrets: []string{"s3cret"}, want: client.ErrPushSignature},
		"another time":                {change: set("x-cmq-push-timestamp", "946684801"), body: "hello", secrets: []string{"s3cret"}, want: client.ErrPushSignature},
		"a time with a sign":          {change: set("x-cmq-push-timestamp", "+946684800"), body: "hello", secrets: []string{"s3cret"}, want: client.ErrPushSignature},
		"no time":                     {change: del("x-cmq-push-timestamp"), body: "hello", secrets: []string{"s3cret"}, want: client.ErrPushUnsigned},
		"no nonce":                    {change: del("x-cmq-push-nonce"), body: "hello", secrets: []string{"s3cret"}, want: client.ErrPushUnsigned},
		"no signature":                {change: del("x-cmq-push-signature"), body: "hello", secrets: []string{"s3cret"}, want: client.ErrPushUnsigned},
		"another kind of signature":   {change: set("x-cmq-push-signature", "md5=00"), body: "hello", secrets: []string{"s3cret"}, want: client.ErrPushUnsigned},
		"a signature of odd length":   {change: set("x-cmq-push-signature", pushSignature[:20]), body: "hello", secrets: []string{"s3cret"}, want: client.ErrPushUnsigned},
		"a signature that is cut off": {change: set("x-cmq-push-signature", pushSignature[:21]), body: "hello", secrets: []string{"s3cret"}, want: client.ErrPushSignature},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if row.after > 0 {
					<-time.After(row.after)
				}
				err := client.VerifyPush(pushHeader(row.change), []byte(row.body), row.window, row.secrets...)
				require.ErrorIs(t, err, row.want)
			})
		})
	}
}
