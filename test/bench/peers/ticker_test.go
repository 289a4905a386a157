package main

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestTicker: arrivals wait for the end of their tick and no longer, those that are due do not wait, and the end wakes all.
func TestTicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c ticker
		c.init()
		stop, began := make(chan struct{}), time.Now()
		go c.run(stop)
		for _, arrival := range []time.Duration{0, 1, tick - 1, tick, tick + 1, 50 * tick, 10 * tick} {
			at, ok := c.until(arrival)
			want := (arrival + tick - 1) / tick * tick
			if !ok || at.Sub(began) != want {
				t.Fatalf("arrival at %v: %v, %v, want %v", arrival, at.Sub(began), ok, want)
			}
			if now := time.Since(began); now != max(want, now) || arrival == 50*tick && now != 50*tick {
				t.Fatalf("arrival at %v came after %v", arrival, now)
			}
		}
		ended := make(chan bool)
		go func() {
			_, ok := c.until(time.Hour)
			ended <- ok
		}()
		synctest.Wait()
		close(stop)
		if <-ended {
			t.Fatal("an arrival after the end")
		}
	})
}
