package main

import (
	"math"
	"math/rand"
	"sync"
	"sync/atomic"
	"time"
)

// openLoop sends at a rate of its own, however long the answers take, as many clients that know nothing of each other would.
// Messages arrive at random (exponentially distributed pauses), several in one tick when they are many. How long one took is
// counted from the tick in which it arrived.
type openLoop struct {
	l      *Load
	conns  int
	window int  // of each connection: more are not outstanding
	shed   bool // what finds no room in the window is given up; otherwise it waits for room

	rate    atomic.Uint64 // arrivals a second on all connections, as bits of a float64; may be changed while it runs
	latency atomic.Pointer[Hist]
	clock   ticker
	stop    chan struct{}
	wg      sync.WaitGroup

	arrived, confirmed, failed, dropped atomic.Int64 // latency is of the confirmed ones, and may be replaced
}

// newOpenLoop makes one that is not started.
func newOpenLoop(l *Load, window int, rate float64, shed bool) *openLoop {
	o := &openLoop{l: l, conns: l.Conns, window: window, shed: shed, stop: make(chan struct{})}
	o.setRate(rate)
	o.latency.Store(new(Hist))
	o.clock.init()
	return o
}

// setRate changes the rate.
func (o *openLoop) setRate(rate float64) { o.rate.Store(math.Float64bits(rate)) }

// pause is the time until the next arrival on one connection.
func (o *openLoop) pause() time.Duration {
	each := math.Float64frombits(o.rate.Load()) / float64(o.conns)
	return time.Duration(rand.ExpFloat64() / each * float64(time.Second))
}

// start begins to send.
func (o *openLoop) start() error {
	for i := range o.conns {
		p, err := o.l.Peer.Producer(i, o.window)
		if err != nil {
			return err
		}
		o.wg.Go(func() { o.arrivals(p) })
	}
	o.wg.Go(func() { o.clock.run(o.stop) })
	return nil
}

// end stops sending and waits for what is outstanding.
func (o *openLoop) end() {
	close(o.stop)
	o.wg.Wait()
}

// arrivals sends on one connection.
func (o *openLoop) arrivals(p Producer) {
	defer p.Close()
	free := make(chan []byte, o.window)
	for range o.window {
		free <- o.l.newBody()
	}
	id := o.l.next.Add(1)
	arrival := time.Duration(0)
	for seq := uint64(0); ; seq++ {
		arrival += o.pause()
		at, ok := o.clock.until(arrival)
		if !ok {
			return
		}
		o.arrived.Add(1)
		body := o.room(free)
		if body == nil {
			o.dropped.Add(1)
			continue
		}
		stamp(body, id, seq, at)
		h := o.latency.Load()
		p.Send(body, func(err error) {
			if err != nil {
				o.failed.Add(1)
			} else {
				o.confirmed.Add(1)
				h.Add(time.Since(at))
			}
			free <- body
		})
	}
}

// room takes a free place of the window; nil if the message is given up.
func (o *openLoop) room(free chan []byte) []byte {
	if o.shed {
		select {
		case b := <-free:
			return b
		default:
			return nil
		}
	}
	select {
	case b := <-free:
		return b
	case <-o.stop:
		return nil
	}
}
