package main

import (
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
	window int     // of each connection: more are not outstanding
	rate   float64 // arrivals a second on all connections; may be changed while it runs
	shed   bool    // what finds no room in the window is given up; otherwise it waits for room

	arrived, confirmed, failed, dropped atomic.Int64
	latency                             atomic.Pointer[Hist] // of the confirmed ones; may be replaced

	mu   sync.Mutex
	stop chan struct{}
	wg   sync.WaitGroup
}

// tick is how often arrivals are looked at. To wake for each of fifty thousand a second would take half a core from the nodes
// on the same machine.
const tick = 200 * time.Microsecond

// setRate changes the rate.
func (o *openLoop) setRate(rate float64) {
	o.mu.Lock()
	o.rate = rate
	o.mu.Unlock()
}

// pause is the time until the next arrival on one connection.
func (o *openLoop) pause() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Duration(rand.ExpFloat64() / o.rate * float64(o.conns) * float64(time.Second))
}

// start begins to send.
func (o *openLoop) start() error {
	o.stop = make(chan struct{})
	o.latency.Store(new(Hist))
	for i := range o.conns {
		p, err := o.l.Peer.Producer(i, o.window)
		if err != nil {
			return err
		}
		o.wg.Go(func() { o.arrivals(p) })
	}
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
	start, arrival := time.Now(), time.Duration(0)
	for seq := uint64(0); ; seq++ {
		arrival += o.pause()
		at := start.Add((arrival + tick - 1) / tick * tick)
		if !o.until(at) {
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

// until waits for the moment; false at the end.
func (o *openLoop) until(at time.Time) bool {
	select {
	case <-o.stop:
		return false
	default:
	}
	if d := time.Until(at); d > 0 {
		time.Sleep(d)
	}
	return true
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
