package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push"
	"github.com/opencmq/cmq/internal/dispatch/push/guard"
)

// Who comes to a full host waits in line, in order, and not for another host's sake.
func TestHostsLetInSoMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hosts{most: 2, busy: make(map[string]*host)}
		ctx := t.Context()
		impatient, giveUp := context.WithCancel(ctx)
		require.NoError(t, h.enter(ctx, "a"))
		require.NoError(t, h.enter(ctx, "a"))
		var in []int
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				ctx := ctx
				if i == 1 {
					ctx = impatient
				}
				if err := h.enter(ctx, "a"); err != nil {
					require.ErrorIs(t, err, context.Canceled)
					return
				}
				in = append(in, i)
			})
			synctest.Wait()
		}
		require.Equal(t, 4, h.waiting)
		require.NoError(t, h.enter(ctx, "b"), "another host is not busy")
		h.leave("b")
		giveUp()
		synctest.Wait()
		require.Equal(t, 3, h.waiting)
		for want := range 3 {
			require.Len(t, in, want)
			h.leave("a")
			synctest.Wait()
		}
		wg.Wait()
		require.Equal(t, []int{0, 2, 3}, in)
		h.leave("a")
		require.Len(t, h.busy, 1)
		h.leave("a")
		require.Empty(t, h.busy, "an idle host is forgotten")
	})
}

// Whose turn it is just when it gives up hands on what it got.
func TestHostsLoseNoPlace(t *testing.T) {
	h := &hosts{most: 1, busy: make(map[string]*host)}
	require.Nil(t, h.join("a"))
	first, second := h.join("a"), h.join("a")
	h.leave("a")
	<-first
	h.giveUp("a", first)
	<-second
	h.leave("a")
	require.Empty(t, h.busy)
	require.Zero(t, h.waiting)
}

func TestNamesOfHosts(t *testing.T) {
	for url, want := range map[string]string{
		"http://Shop.example/a": "shop.example:80", "https://shop.example.": "shop.example:443", "http://shop.example:80/b?c": "shop.example:80",
		"http://u:p@127.0.0.1:81": "127.0.0.1:81", "http://[2001:DB8::1]:80": "[2001:db8::1]:80",
	} {
		u, err := guard.Endpoint(url)
		require.NoError(t, err)
		require.Equal(t, want, hostOf(u))
	}
}

// A hundred subscriptions of a slow host have no more connections to it than it may have, whatever part of the URL differs, and a
// host beside it does not notice. Waiting for the host is no failure.
func TestManySubscriptionsOfOneHost(t *testing.T) {
	const subscriptions, most = 100, 5
	var now, highest, all atomic.Int64
	arrived, release := make(chan struct{}, subscriptions), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		for old := highest.Load(); n > old && !highest.CompareAndSwap(old, n); old = highest.Load() {
		}
		arrived <- struct{}{}
		<-release
		now.Add(-1)
		all.Add(1)
	}))
	t.Cleanup(slow.Close)
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(other.Close)
	c := loopback(t, 0)
	c.LimitHosts(most)
	target := NewEndpoints(c)
	var tries sync.WaitGroup
	errs := make(chan error, subscriptions)
	for range subscriptions {
		tries.Go(func() { errs <- target.Deliver(t.Context(), delivery(slow.URL+"/"+t.Name(), cmq.FormatSimplified)) })
	}
	for range most {
		<-arrived
	}
	require.NoError(t, target.Deliver(t.Context(), delivery(other.URL, cmq.FormatSimplified)))

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	var f *push.Failure
	require.ErrorAs(t, target.Deliver(gone, delivery(slow.URL, cmq.FormatSimplified)), &f)
	require.ErrorIs(t, f, context.Canceled)

	close(release)
	tries.Wait()
	for range subscriptions {
		require.NoError(t, <-errs)
	}
	require.EqualValues(t, most, highest.Load())
	require.EqualValues(t, subscriptions, all.Load())
	require.Zero(t, c.Waiting())
}
