package httpapi

import (
	"context"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// watched is a backend that tells when the context of a receive has ended.
type watched struct {
	access.Backend
	ended chan<- struct{}
}

func (w watched) Receive(ctx context.Context, owner, name string, max int, wait *time.Duration, lock time.Duration) ([]cmq.Message, error) {
	context.AfterFunc(ctx, func() { close(w.ended) })
	return w.Backend.Receive(ctx, owner, name, max, wait, lock)
}
