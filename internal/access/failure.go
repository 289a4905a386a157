package access

import (
	"errors"

	"github.com/opencmq/cmq/internal/cmq"
)

// Refusal gives the error of the catalogue that tells a client about err, which a Backend returned for the
// action. internal reports that it was not the client's fault, so that the server's log should have it.
//
// A server with too much to do answers 4420 "qps throttling", which tells clients to come again.
func Refusal(action Action, err error) (refusal *cmq.Error, internal bool) {
	if errors.As(err, &refusal) {
		return refusal, false
	}
	if errors.Is(err, cmq.ErrBusy) {
		return cmq.ErrThrottled, false
	}
	return action.failure(), true
}
