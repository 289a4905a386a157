package queue

import (
	"github.com/opencmq/cmq/internal/core/delay"
	"github.com/tidwall/btree"
)

// delayed is the delayed lanes of a shard. Nil is none, of which can be asked.
type delayed struct {
	delay.Set                         // pending messages of all lanes; those that were only sent to are only here
	lanes     btree.Map[int64, *lane] // lanes something has happened to
}

// makeDelayed gives the delayed lanes to put something in.
func (s *Shard) makeDelayed() *delayed {
	if s.delayed == nil {
		s.delayed = &delayed{}
		s.delayed.Advance(s.now)
	}
	return s.delayed
}

func (d *delayed) empty() bool { return d.Total() == 0 && d.lanes.Len() == 0 }

func (d *delayed) advance(now int64) {
	if d != nil {
		d.Advance(now)
	}
}

// total counts the messages that wait, due or not.
func (d *delayed) total() uint64 {
	if d == nil {
		return 0
	}
	return d.Total()
}

// ready counts those that are due at now.
func (d *delayed) ready(now int64) uint64 {
	if d == nil {
		return 0
	}
	return d.Ready(now)
}

// next is the first moment after now at which a lane falls due, 0 if there is none.
func (d *delayed) next(now int64) int64 {
	if d == nil {
		return 0
	}
	return d.Next(now)
}

// first gives the lane that fell due first, if one is due.
func (d *delayed) first() (delay.Lane, bool) {
	if d == nil {
		return delay.Lane{}, false
	}
	return d.First()
}

// get finds a lane in which messages wait.
func (d *delayed) get(due int64) (delay.Lane, bool) {
	if d == nil {
		return delay.Lane{}, false
	}
	return d.Get(due)
}

// opened counts the lanes that have a state of their own.
func (d *delayed) opened() int {
	if d == nil {
		return 0
	}
	return d.lanes.Len()
}

// copy is the lanes as they are now, which another goroutine may read.
func (d *delayed) copy() *delayed {
	if d == nil {
		return nil
	}
	c := &delayed{Set: d.Copy()}
	d.lanes.Scan(func(due int64, l *lane) bool {
		own := *l
		c.lanes.Load(due, &own)
		return true
	})
	return c
}
