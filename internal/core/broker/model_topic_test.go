package broker

import (
	"slices"
	"strings"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// Topics in the reference model: all shards are looked at for every message published.

// publish gives the messages to every subscription of the topic that wants them.
func (m *model) publish(op command.Op, first uint16, r Result) (Result, []Placed) {
	var placed []Placed
	r.Err = cmq.ErrNoSubscription
	for _, id := range m.ids() {
		s := m.shards[id]
		if s.sub == nil || s.sub.Topic != op.Shard {
			continue
		}
		if !wants(s.sub, op.Publication) {
			if r.Err == cmq.ErrNoSubscription {
				r.Err = cmq.ErrNoMatch
			}
			continue
		}
		r.Err, r.FirstSlot, r.N = nil, first, len(op.Bodies)
		s.settle(m.time)
		placed = append(placed, s.place(0, first, len(op.Bodies))...)
		if s.sub.Forward {
			s.each(func(m *message) {
				if m.lane == 0 && m.state == fresh {
					m.count, m.first = 0, 0
					s.die(m)
				}
			})
		}
	}
	return r, placed
}

// move brings messages from the head of an outbox to another shard, which refers to where they were stored first.
func (m *model) move(s *modelShard, op command.Op, r Result) (Result, []Placed) {
	from := m.shards[op.From]
	if from == nil || from == s || from.sub == nil || !from.sub.Forward {
		r.Err = cmq.ErrParameters
		return r, nil
	}
	if head, _ := from.deadHead(1); head < op.Number {
		r.Err, r.Number = cmq.ErrParameters, head
		return r, nil
	}
	from.settle(m.time)
	var placed []Placed
	r.Number = op.Number
	for i, id := range op.IDs {
		var moved *message
		from.each(func(msg *message) {
			if msg.state == dead && msg.number == r.Number {
				moved = msg
			}
		})
		if moved != nil && from.old(moved) {
			break
		}
		if moved != nil && s.a.MaxMsgHeapNum > 0 && int64(s.heap()) >= s.a.MaxMsgHeapNum {
			if r.N == 0 {
				r.Err = cmq.ErrHeapFull
			}
			break
		}
		if r.Number++; moved != nil {
			p := s.place(0, id.Slot(), 1)[0]
			p.Index, p.Bytes = id.Index(), op.Sizes[i]
			placed = append(placed, p)
			r.N++
		}
	}
	if r.Number > op.Number {
		from.each(func(msg *message) {
			if msg.state == dead && msg.number < r.Number {
				msg.state = gone
			}
		})
	}
	from.messages = slices.DeleteFunc(from.messages, func(m *message) bool { return m.state == gone })
	return r, placed
}

// spread gives messages to each shard that has a share of them, one after the other.
func (m *model) spread(op command.Op, first uint16, r Result) (Result, []Placed) {
	var placed []Placed
	for _, share := range op.Shares {
		s := m.shards[share.Shard]
		if s == nil {
			r.Errors, r.Numbers = append(r.Errors, cmq.ErrQueueNotExist), append(r.Numbers, 0)
			continue
		}
		s.settle(m.time)
		next, taken, err := max(s.arrived[share.From], share.Base), []uint16(nil), (*cmq.Error)(nil)
		if share.Number > next {
			r.Errors, r.Numbers = append(r.Errors, cmq.ErrParameters), append(r.Numbers, next)
			continue
		}
		for i, place := range share.Places {
			if share.Number+uint64(i) < next {
				continue
			}
			if s.a.MaxMsgHeapNum > 0 && int64(s.heap()) >= s.a.MaxMsgHeapNum {
				if len(taken) == 0 {
					err = cmq.ErrHeapFull
				}
				break
			}
			taken = append(taken, place)
			p := s.place(0, first+place, 1)
			if n := len(placed) - 1; len(taken) > 1 && taken[len(taken)-2]+1 == place {
				placed[n].N++
			} else {
				placed = append(placed, p...)
			}
		}
		if next += uint64(len(taken)); err == nil {
			s.arrived[share.From] = next
		}
		r.Errors, r.Numbers = append(r.Errors, err), append(r.Numbers, next)
	}
	return r, placed
}

func (m *model) ids() (ids []cmq.ShardID) {
	for id := range m.shards {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// wants is the table of http-api.md 4.1.
func wants(s *cmq.Subscriber, p cmq.Publication) bool {
	if s.Filter == cmq.FilterKeys {
		return slices.ContainsFunc(s.Keys, func(key string) bool { return bound(wordsOf(key), wordsOf(p.RoutingKey)) })
	}
	return len(s.Tags) == 0 || slices.ContainsFunc(s.Tags, func(tag string) bool { return slices.Contains(p.Tags, tag) })
}

func wordsOf(key string) []string {
	if key == "" {
		return nil
	}
	return strings.Split(key, ".")
}

func bound(binding, key []string) bool {
	switch {
	case len(binding) == 0:
		return len(key) == 0
	case binding[0] == "#":
		return bound(binding[1:], key) || len(key) > 0 && bound(binding, key[1:])
	case len(key) == 0 || binding[0] != key[0] && (binding[0] != "*" || key[0] == ""):
		return false
	}
	return bound(binding[1:], key[1:])
}
