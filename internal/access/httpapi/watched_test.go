package httpapi

import (
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// watched is a backend that tells when a receive is taken back.
type watched struct {
	Backend
	ended chan<- struct{}
}

func (w watched) StartReceive(owner, name string, max int, wait *time.Duration, lock time.Duration, done func([]cmq.Message, error)) cmq.Pending {
	return &watchedReceive{Pending: w.Backend.StartReceive(owner, name, max, wait, lock, done), ended: w.ended}
}

type watchedReceive struct {
	cmq.Pending
	once  sync.Once
	ended chan<- struct{}
}

func (p *watchedReceive) Cancel() {
	p.once.Do(func() { close(p.ended) })
	p.Pending.Cancel()
}
