package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Why VerifyPush refuses a delivery.
var (
	ErrPushUnsigned  = errors.New("push: the request has no signature, time stamp or nonce")
	ErrPushTime      = errors.New("push: the time stamp is too far from the time here")
	ErrPushSignature = errors.New("push: the signature is not that of the secret")
)

// PushWindow is how far the time stamp of a delivery may be from the time here if VerifyPush is given no other window.
const PushWindow = 5 * time.Minute

// VerifyPush checks that a delivery over HTTP comes from a service that knows one of the secrets, was made within the
// window around now, and has not been changed: header is the request's, body all of its body as it came. While a
// subscription gets another secret, give both. A window of 0 is PushWindow.
//
// Within the window a delivery that somebody has overheard may be repeated. Who cannot have that keeps the nonces
// (the header x-cmq-push-nonce) for twice the window and refuses one that has been there.
func VerifyPush(header http.Header, body []byte, window time.Duration, secrets ...string) error {
	stamp, nonce := header.Get("x-cmq-push-timestamp"), header.Get("x-cmq-push-nonce")
	given, signed := strings.CutPrefix(header.Get("x-cmq-push-signature"), "sha256=")
	sum, err := hex.DecodeString(given)
	seconds, notNumber := strconv.ParseInt(stamp, 10, 64)
	if !signed || err != nil || notNumber != nil || nonce == "" {
		return ErrPushUnsigned
	}
	if !pushSigned(sum, stamp, nonce, body, secrets) {
		return ErrPushSignature
	}
	if window == 0 {
		window = PushWindow
	}
	if away := time.Since(time.Unix(seconds, 0)); away > window || away < -window {
		return ErrPushTime
	}
	return nil
}

// pushSigned compares with all secrets, each in constant time. What is signed is
//
//	time stamp "\n" nonce "\n" body
func pushSigned(sum []byte, stamp, nonce string, body []byte, secrets []string) (ok bool) {
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(stamp + "\n" + nonce + "\n"))
		mac.Write(body)
		if hmac.Equal(mac.Sum(nil), sum) && secret != "" {
			ok = true
		}
	}
	return ok
}
