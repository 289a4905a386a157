package controller

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/core/meta"
)

// Board shows the newest table of this node to everybody in it. Reading takes no lock.
type Board struct {
	mu     sync.Mutex // of those who put something up
	notice atomic.Pointer[notice]
}

// notice is what is on the board; it is never changed.
type notice struct {
	table    *meta.Table
	leading  bool          // this node's replica leads set 0
	replaced chan struct{} // closed when another notice is up
}

// NewBoard is a board with the table of a cluster that was not bootstrapped.
func NewBoard() *Board {
	b := &Board{}
	b.notice.Store(&notice{table: meta.New().Table(), replaced: make(chan struct{})})
	return b
}

// Table is the newest table.
func (b *Board) Table() *meta.Table { return b.notice.Load().table }

// Changed returns a channel that is closed when there is news: another table, or leadership of set 0 came or
// went. To miss nothing, take the channel first and look then.
func (b *Board) Changed() <-chan struct{} { return b.notice.Load().replaced }

// Leading reports whether this node's replica leads set 0.
func (b *Board) Leading() bool { return b.notice.Load().leading }

// Wait returns the first table whose version is at least the given one, or the context's error.
func (b *Board) Wait(ctx context.Context, version uint64) (*meta.Table, error) {
	for {
		n := b.notice.Load()
		if n.table.Version() >= version {
			return n.table, nil
		}
		select {
		case <-n.replaced:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// put publishes the table unless the board has it or a newer one.
func (b *Board) put(table *meta.Table) {
	b.replace(func(n *notice) bool {
		newer := table.Version() > n.table.Version()
		n.table = table
		return newer
	})
}

func (b *Board) setLeading(leading bool) {
	b.replace(func(n *notice) bool {
		changed := n.leading != leading
		n.leading = leading
		return changed
	})
}

// replace puts up a changed copy of the notice if change says so.
func (b *Board) replace(change func(*notice) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.notice.Load()
	next := &notice{table: old.table, leading: old.leading, replaced: make(chan struct{})}
	if change(next) {
		b.notice.Store(next)
		close(old.replaced)
	}
}
