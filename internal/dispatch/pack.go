package dispatch

import (
	"cmp"
	"math"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
)

// maxSpread is how many messages one request spreads; cmq.MaxSlots is how many an entry can have.
const maxSpread = 1024

// load is what one request of a courier carries.
type load struct {
	messages []cmq.Message // each once
	parts    []part
	rest     []*offer // wait for the next request
}

// part is what goes of one offer: its first messages.
type part struct {
	offer  *offer
	places []uint16 // among the messages of the load
}

// pack chooses what goes of some offers, the oldest first, with one request. Every outbox lists its messages in the order in
// which they were published, and ids grow. So if of all offers that have any only the messages up to one id go, each goes once:
//
//	offer 1   1 2 3 4 5 6 …   more behind     goes: 1 2 3 4 5 6
//	offer 2     2   4         nothing up to 9       2 4
//	offer 3         4   6 7   nothing up to 9       4 6       7 goes with the next of 1
//
// An offer that begins where others end does not wait for them if they have more behind, for they may be a million messages
// behind: it goes with what begins there too. If they have not, they will have it the next time, and it waits for that, once.
func pack(offers []*offer) *load {
	l := new(load)
	windows, late := windowsOf(offers)
	oldest := slices.IndexFunc(windows, func(w window) bool { return slices.Contains(w.offers, offers[0]) })
	if oldest > 0 {
		w := windows[oldest]
		windows = slices.Insert(slices.Delete(windows, oldest, oldest+1), 0, w)
	}
	bytes := 0
	for i := range windows {
		if bytes < moveBytes && len(l.messages) < maxSpread {
			bytes = l.add(&windows[i], bytes)
		} else {
			l.rest = append(l.rest, windows[i].offers...)
		}
	}
	l.rest = append(l.rest, late...)
	// Who came first stays first.
	slices.SortStableFunc(l.rest, func(a, b *offer) int { return cmp.Compare(slices.Index(offers, a), slices.Index(offers, b)) })
	return l
}

// window is offers of which messages up to the same id go.
type window struct {
	offers []*offer
	limit  cmq.MsgID
}

func (o *offer) head() cmq.MsgID { return o.list.Messages[0].ID }

// last is the id up to which an offer that has more behind can tell what it has.
func (o *offer) last() cmq.MsgID {
	return max(o.head(), o.list.Messages[len(o.list.Messages)-1].ID)
}

// windowsOf sorts offers into windows, lowest first, and those that should wait for others.
func windowsOf(offers []*offer) (windows []window, late []*offer) {
	horizon := cmq.MsgID(math.MaxUint64)
	for _, o := range offers {
		if o.list.Upto != 0 {
			horizon = min(horizon, o.list.Upto)
		}
	}
	sorted := slices.Clone(offers)
	slices.SortStableFunc(sorted, func(a, b *offer) int { return cmp.Compare(a.head(), b.head()) })
	for i, o := range sorted {
		if o.head() > horizon {
			return windows, sorted[i:]
		}
		if n := len(windows); n == 0 || o.head() > windows[n-1].limit {
			windows = append(windows, window{limit: horizon})
		}
		w := &windows[len(windows)-1]
		w.offers = append(w.offers, o)
		if o.list.Upto == 0 {
			w.limit = min(w.limit, o.last())
		}
	}
	return windows, nil
}

// add takes a window into the load, which has some bytes of bodies, as far as there is room; the first message always goes. It
// gives the bytes there are then.
func (l *load) add(w *window, bytes int) int {
	first := len(l.messages)
	l.messages = append(l.messages, w.messages()...)
	for i := first; i < len(l.messages); i++ {
		if bytes += len(l.messages[i].Body); i > 0 && (bytes > moveBytes || i >= maxSpread) {
			l.messages, bytes = l.messages[:i], moveBytes
			break
		}
	}
	mine := l.messages[first:]
	for _, o := range w.offers {
		p := part{offer: o}
		for i := range o.list.Messages {
			at, found := slices.BinarySearchFunc(mine, o.list.Messages[i].ID, func(m cmq.Message, id cmq.MsgID) int { return cmp.Compare(m.ID, id) })
			if !found {
				break
			}
			p.places = append(p.places, uint16(first+at))
		}
		if len(p.places) > 0 {
			l.parts = append(l.parts, p)
		} else {
			l.rest = append(l.rest, o)
		}
	}
	return bytes
}

// messages are those that the offers of the window have up to its limit, by id, each once.
func (w *window) messages() (list []cmq.Message) {
	for _, o := range w.offers {
		for i := range o.list.Messages {
			if o.list.Messages[i].ID <= w.limit {
				list = append(list, o.list.Messages[i])
			}
		}
	}
	slices.SortStableFunc(list, func(a, b cmq.Message) int { return cmp.Compare(a.ID, b.ID) })
	return slices.CompactFunc(list, func(a, b cmq.Message) bool { return a.ID == b.ID })
}

// request is the one that carries the load.
func (l *load) request() *cmq.Request {
	req := &cmq.Request{Kind: cmq.KindSpread}
	for i := range l.messages {
		req.IDs, req.Bodies = append(req.IDs, l.messages[i].ID), append(req.Bodies, l.messages[i].Body)
	}
	for _, p := range l.parts {
		list := p.offer.list
		req.Shares = append(req.Shares, cmq.Share{Shard: p.offer.to, From: p.offer.shard, Base: list.Base, Number: list.Number, Places: p.places})
	}
	return req
}
