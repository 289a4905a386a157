package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
)

// Names of the headers of a signed delivery.
const (
	headerTimestamp = "x-cmq-push-timestamp" // Unix seconds, decimal
	headerNonce     = "x-cmq-push-nonce"     // 32 hexadecimal digits, drawn anew for each try
	headerSignature = "x-cmq-push-signature" // "sha256=" and 64 hexadecimal digits
)

// sign adds the signature, the HMAC-SHA256 under the subscription's secret of
//
//	time stamp "\n" nonce "\n" body
//
// A receiver checks it with the time stamp and the nonce as they are in the headers and the body as it came, and refuses
// old time stamps. client.VerifyPush does that.
func sign(h http.Header, secret string, now time.Time, body []byte) {
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	stamp, once := strconv.FormatInt(now.Unix(), 10), hex.EncodeToString(nonce[:])
	h[headerTimestamp], h[headerNonce] = []string{stamp}, []string{once}
	h[headerSignature] = []string{"sha256=" + hex.EncodeToString(signature(secret, stamp, once, body))}
}

func signature(secret, stamp, nonce string, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(stamp + "\n" + nonce + "\n"))
	mac.Write(body)
	return mac.Sum(nil)
}
