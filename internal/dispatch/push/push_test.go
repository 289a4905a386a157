package push

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push/course"
)

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		f(t, r)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.Close(ctx)
	})
}

// exponential gives the moments of the first n tries.
func exponential(n int) (at []time.Duration) {
	now, wait := time.Duration(0), time.Second
	for range n {
		at = append(at, now)
		now += wait
		wait = min(2*wait, 512*time.Second)
	}
	return at
}

func TestEachMessageOnce(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.ExponentialRetry, good)
		r.Update(r.outlets)
		r.sets.publish(id, bodies("m", 1000)...)
		synctest.Wait()
		require.Len(t, e.seen, 1000)
		require.Len(t, r.shard(id).deleted, 1000)
		require.EqualValues(t, 1000, r.Stats().Delivered.Load())
		require.LessOrEqual(t, e.most, course.DefaultConcurrency)
	})
}

// TestAWholeDay: an endpoint is down for a day. Its messages are tried to the second, and given up after the last try.
func TestAWholeDay(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.ExponentialRetry, bad)
		r.Update(r.outlets)
		r.sets.publish(id, "m")
		r.pass(86014 * time.Second)
		require.Len(t, r.shard(id).messages, 1, "nothing is dropped before its schedule ends")
		r.pass(386 * time.Second)
		near(t, exponential(177), e.of("m"))
		require.Empty(t, r.shard(id).messages)
		require.EqualValues(t, 1, r.Stats().GivenUp.Load())
		require.EqualValues(t, 177, r.Stats().Failed.Load())
	})
}

func TestDeadLetters(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.BackoffRetry, bad, func(s *cmq.Subscription) { s.Push.DeadLetter = 7 })
		r.Update(r.outlets)
		r.sets.publish(id, "m")
		r.pass(2 * time.Minute)
		require.Len(t, e.seen, 4)
		require.Equal(t, []string{"m"}, r.shard(id).dead)
		require.Empty(t, r.shard(id).deleted)
	})
}

// TestBackoffKeepsTheOrder: a message that fails holds up those behind it, until it is given up.
func TestBackoffKeepsTheOrder(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.BackoffRetry, func(_ context.Context, body string, _ int) error {
			if body == "bad" {
				return &Failure{Reason: Answered, Status: 500}
			}
			return nil
		})
		r.Update(r.outlets)
		r.sets.publish(id, "a", "bad", "b", "c")
		r.pass(5 * time.Minute)
		var order []string
		for i, s := range e.seen {
			order = append(order, s.body)
			if s.body == "bad" && s.try > 1 {
				pause := s.at - e.seen[i-1].at
				require.GreaterOrEqual(t, pause, 19*time.Second)
				require.Less(t, pause, 30*time.Second)
			}
		}
		require.Equal(t, []string{"a", "bad", "bad", "bad", "bad", "b", "c"}, order)
		require.Equal(t, 1, e.most)
	})
}

func TestOrderedWithGrowingPauses(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.ExponentialRetry, func(_ context.Context, body string, try int) error {
			if body == "a" && try < 4 {
				return errors.New("no route")
			}
			return nil
		}, func(s *cmq.Subscription) { s.Push.Ordered = true })
		r.Update(r.outlets)
		r.sets.publish(id, "a", "b")
		r.pass(8 * time.Second)
		near(t, exponential(4), e.of("a"))
		near(t, []time.Duration{7 * time.Second}, e.of("b"))
	})
}

func TestRetryAfterMakesThePauseLonger(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.ExponentialRetry, func(_ context.Context, _ string, try int) error {
			if try == 1 {
				return &Failure{Reason: Answered, Status: 503, After: time.Minute}
			}
			return nil
		})
		r.Update(r.outlets)
		r.sets.publish(id, "m")
		r.pass(2 * time.Minute)
		near(t, []time.Duration{0, time.Minute}, e.of("m"))
	})
}

// TestADeadEndpointUsesUpNoTries: while the circuit is open, the messages in retry keep their schedule, and the
// rest is not touched but for a probe now and then. When the endpoint is back, everything arrives.
func TestADeadEndpointUsesUpNoTries(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var alive atomic.Bool
		id, e := r.subscribe(cmq.ExponentialRetry, func(ctx context.Context, body string, try int) error {
			if alive.Load() {
				return nil
			}
			return bad(ctx, body, try)
		})
		r.Update(r.outlets)
		r.sets.publish(id, bodies("m", 1000)...)
		r.pass(10 * time.Minute)
		require.EqualValues(t, 1, r.Stats().Open.Load())
		tried := map[string]bool{}
		for _, s := range e.seen {
			tried[s.body] = true
		}
		require.LessOrEqual(t, len(tried), course.OpenAfter+20, "one more each 30 s")
		for body := range tried {
			at := e.of(body)
			for i, want := range exponential(len(at)) {
				require.InDelta(t, want.Seconds(), (at[i] - at[0]).Seconds(), 1, "%s, try %d", body, i+1)
			}
		}
		alive.Store(true)
		r.pass(513 * time.Second)
		require.Len(t, r.shard(id).deleted, 1000)
		require.Zero(t, r.Stats().Open.Load())
		require.Zero(t, r.Stats().GivenUp.Load())
	})
}

// TestADeadEndpointCostsOthersNothing: with dead and hanging endpoints beside it, a good one gets each message at once.
func TestADeadEndpointCostsOthersNothing(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		healthy, e := r.subscribe(cmq.ExponentialRetry, good)
		for range 20 {
			a, _ := r.subscribe(cmq.ExponentialRetry, bad)
			b, _ := r.subscribe(cmq.ExponentialRetry, hang)
			r.sets.publish(a, bodies("m", 100)...)
			r.sets.publish(b, bodies("m", 100)...)
		}
		r.Update(r.outlets)
		for i := range 100 {
			r.sets.publish(healthy, bodies("h", 100)[i])
			r.pass(time.Second)
		}
		require.Len(t, e.seen, 100)
		for i, s := range e.seen {
			require.Equal(t, time.Duration(i)*time.Second, s.at)
		}
	})
}

func TestRateAndConcurrency(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		slow := func(context.Context, string, int) error { after(time.Second); return nil }
		few, f := r.subscribe(cmq.ExponentialRetry, slow, func(s *cmq.Subscription) { s.Push.Concurrency = 3 })
		rated, e := r.subscribe(cmq.ExponentialRetry, good, func(s *cmq.Subscription) { s.Push.Rate = 5 })
		r.Update(r.outlets)
		r.sets.publish(few, bodies("m", 30)...)
		r.sets.publish(rated, bodies("m", 50)...)
		r.pass(5 * time.Second)
		require.InDelta(t, 25, len(e.seen), 2)
		r.pass(10 * time.Second)
		require.Len(t, e.seen, 50)
		require.Equal(t, 3, f.most)
		require.Len(t, f.seen, 30)
	})
}

func TestSlowStart(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.ExponentialRetry, func(context.Context, string, int) error { after(time.Second); return nil })
		r.Update(r.outlets)
		r.sets.publish(id, bodies("m", 40)...)
		r.pass(100 * time.Second)
		perSecond := map[time.Duration]int{}
		for _, s := range e.seen {
			perSecond[s.at.Truncate(time.Second)]++
		}
		require.Equal(t, []int{1, 2, 4, 8, 16}, []int{perSecond[0], perSecond[time.Second], perSecond[2*time.Second], perSecond[3*time.Second], perSecond[4*time.Second]})
	})
}

func TestPausedAndResumed(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.ExponentialRetry, good)
		paused := *r.outlets[0].Subscription
		paused.Push.Paused = true
		running := r.outlets[0]
		r.Update([]Outlet{running})
		synctest.Wait()
		r.Update([]Outlet{{Set: 1, Topic: running.Topic, Subscription: &paused}})
		r.sets.publish(id, "m")
		r.pass(time.Hour)
		require.Empty(t, e.seen)
		require.Zero(t, r.Lanes())
		r.Update([]Outlet{running})
		synctest.Wait()
		require.Len(t, e.seen, 1)
	})
}

// TestLongTriesKeepTheirLock: nobody else gets the message while a target works on it.
func TestLongTriesKeepTheirLock(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.ExponentialRetry, func(context.Context, string, int) error { after(5 * time.Minute); return nil })
		r.Update(r.outlets)
		r.sets.publish(id, "m")
		r.pass(6 * time.Minute)
		require.Len(t, e.seen, 1)
		require.Equal(t, []string{"m"}, r.shard(id).deleted)
		require.Zero(t, r.Stats().Unsettled.Load())
	})
}

// TestAnotherLeaderGoesOn: what the old one arranged is in the state: neither the count of tries begins anew nor the schedule.
func TestAnotherLeaderGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.ExponentialRetry, bad)
		r.Update(r.outlets)
		r.sets.publish(id, "m")
		r.pass(100 * time.Second)
		r.Update(nil)
		other := r.dispatcher()
		other.Update(r.outlets)
		r.pass(1000 * time.Second)
		near(t, exponential(11), e.of("m"))
		for i, s := range e.seen {
			require.Equal(t, i+1, s.try)
		}
		other.Close(t.Context())
	})
}

// TestATryGoesOnWhenLeadershipMoves: its outcome is told to the new leader, and nothing is delivered twice.
func TestATryGoesOnWhenLeadershipMoves(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.ExponentialRetry, func(context.Context, string, int) error { after(10 * time.Second); return nil })
		r.Update(r.outlets)
		r.sets.publish(id, "m")
		r.pass(time.Second)
		r.Update(nil)
		other := r.dispatcher()
		other.Update(r.outlets)
		r.pass(time.Minute)
		require.Len(t, e.seen, 1)
		require.Equal(t, []string{"m"}, r.shard(id).deleted)
		other.Close(t.Context())
	})
}

// TestALeaderThatDies: what its endpoint had taken is delivered again when the lock ends, because nobody knows.
func TestALeaderThatDies(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.ExponentialRetry, good)
		var cut atomic.Bool
		r.sets.before = func(req *cmq.Request) error {
			if req.Kind == cmq.KindDelete && !cut.Load() {
				return cmq.ErrStopping
			}
			return nil
		}
		r.Update(r.outlets)
		r.sets.publish(id, "m")
		r.pass(time.Second)
		dead, stop := context.WithCancel(t.Context())
		stop()
		r.Close(dead)
		require.EqualValues(t, 1, r.Stats().Unsettled.Load())
		cut.Store(true)
		other := r.dispatcher()
		other.Update(r.outlets)
		r.pass(time.Minute)
		require.Equal(t, []int{1, 2}, []int{e.seen[0].try, e.seen[1].try})
		require.Len(t, e.seen, 2)
		require.Equal(t, 30*time.Second, e.seen[1].at)
		other.Close(t.Context())
	})
}

// TestOutcomesAreWrittenThoughCallsFail: neither a lost request nor a lost answer makes a message arrive twice.
func TestOutcomesAreWrittenThoughCallsFail(t *testing.T) {
	for _, kind := range []cmq.Kind{cmq.KindStatus, cmq.KindReceive, cmq.KindDelete, cmq.KindRelock} {
		for _, lostAnswer := range []bool{false, true} {
			bubble(t, func(t *testing.T, r *rig) {
				id, e := r.subscribe(cmq.ExponentialRetry, func(ctx context.Context, body string, try int) error {
					if try == 1 {
						return bad(ctx, body, try)
					}
					return nil
				})
				var calls atomic.Int64
				broken := func(req *cmq.Request) error {
					if req.Kind == kind && calls.Add(1) <= 3 {
						return cmq.ErrUnknownOutcome
					}
					return nil
				}
				if lostAnswer {
					r.sets.after = broken
				} else {
					r.sets.before = broken
				}
				r.Update(r.outlets)
				r.sets.publish(id, "m")
				r.pass(5 * time.Minute)
				require.Equal(t, []string{"m"}, r.shard(id).deleted)
				require.LessOrEqual(t, len(e.seen), 2)
				require.Zero(t, r.Stats().Unsettled.Load())
			})
		}
	}
}

func TestMessagesThatGoWhileInRetry(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.ExponentialRetry, bad)
		r.Update(r.outlets)
		r.sets.publish(id, bodies("m", 20)...)
		r.pass(100 * time.Second)
		r.sets.mu.Lock()
		r.shard(id).messages = nil // cleared, or their retention ended
		r.sets.mu.Unlock()
		r.sets.publish(id, bodies("n", 1000)...)
		r.pass(10 * time.Minute)
		fresh := map[string]bool{}
		for _, s := range e.seen {
			if s.body[0] == 'n' {
				fresh[s.body] = true
			}
		}
		require.NotEmpty(t, fresh)
		require.LessOrEqual(t, len(fresh), 60, "the circuit is open; only probes are made")
	})
}

func TestCloseWaitsForTries(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, _ := r.subscribe(cmq.ExponentialRetry, func(context.Context, string, int) error { after(10 * time.Second); return nil })
		r.Update(r.outlets)
		r.sets.publish(id, "m")
		r.pass(time.Second)
		r.Close(t.Context())
		require.Equal(t, 10*time.Second, time.Since(begin))
		require.Equal(t, []string{"m"}, r.shard(id).deleted)
		r.Update(r.outlets)
		require.Zero(t, r.Lanes())
	})
}

func TestCloseCutsOff(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, _ := r.subscribe(cmq.ExponentialRetry, hang)
		r.Update(r.outlets)
		r.sets.publish(id, "m")
		r.pass(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r.Close(ctx)
		require.Equal(t, 3*time.Second, time.Since(begin))
	})
}

func TestUnknownProtocol(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, _ := r.subscribe(cmq.BackoffRetry, good, func(s *cmq.Subscription) { s.Protocol = cmq.ProtocolSMS })
		r.Update(r.outlets)
		r.sets.publish(id, "m")
		r.pass(2 * time.Minute)
		require.EqualValues(t, 4, r.Stats().Failed.Load())
		require.EqualValues(t, 1, r.Stats().GivenUp.Load())
	})
}

// TestTwoShareASubscription: neither knows of the other's retries, and each is made at its time all the same. When one dies,
// the other goes on with everything.
func TestTwoShareASubscription(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		works := false
		id, e := r.subscribe(cmq.ExponentialRetry, func(ctx context.Context, body string, try int) error {
			if works {
				return nil
			}
			return bad(ctx, body, try)
		})
		shared := r.outlets[0]
		shared.Shared = true
		other := r.dispatcher()
		r.Update([]Outlet{shared})
		other.Update([]Outlet{shared})
		r.sets.publish(id, bodies("m", 40)...)
		r.pass(5 * time.Minute)
		tried := 0
		for _, body := range bodies("m", 40) {
			at := e.of(body)
			if len(at) == 0 {
				continue
			}
			tried++
			for i := 1; i < len(at); i++ {
				pause := time.Second << (i - 1)
				require.InDelta(t, pause.Seconds(), (at[i] - at[i-1]).Seconds(), 1, "%s, try %d of %v", body, i+1, at)
			}
		}
		require.Equal(t, 40, tried)

		other.cancel() // as if it had been killed
		r.Update(r.outlets)
		works = true
		r.pass(course.LockTime + 10*time.Minute)
		require.Len(t, r.shard(id).deleted, 40)
		require.Empty(t, r.shard(id).messages)
		other.Close(t.Context())
	})
}

// TestAgentsNetworkIsNotThisOne: the same address may be something else here.
func TestAgentsNetworkIsNotThisOne(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, e := r.subscribe(cmq.BackoffRetry, good, func(s *cmq.Subscription) { s.Push.Agent = "plant" })
		r.Update(r.outlets)
		r.sets.publish(id, "m")
		r.pass(time.Minute)
		require.Empty(t, e.seen)
		require.NotZero(t, r.Stats().Failed.Load())
		require.Equal(t, Invalid, r.Test(t.Context(), r.outlets[0], nil).Reason)
		r.cfg.Agent = "PLANT"
		require.Nil(t, r.Test(t.Context(), r.outlets[0], nil))
		r.outlets[0].Subscription.Push.Agent = ""
		require.Equal(t, Invalid, r.Test(t.Context(), r.outlets[0], nil).Reason)
	})
}

func TestWhatIsSaidOfFailures(t *testing.T) {
	f := failureOf(errors.New("10.0.0.7: no route"))
	require.Equal(t, "unreachable", f.Public())
	require.Equal(t, "unreachable: 10.0.0.7: no route", f.Error())
	require.Equal(t, "status 500", failureOf(bad(t.Context(), "", 0)).Public())
}

func TestATestDelivery(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		_, e := r.subscribe(cmq.ExponentialRetry, good)
		require.Nil(t, r.Test(t.Context(), r.outlets[0], []byte("hello")))
		require.Equal(t, []seen{{"hello", 1, 0}}, e.seen)
		_, _ = r.subscribe(cmq.ExponentialRetry, bad)
		require.Equal(t, "status 500", r.Test(t.Context(), r.outlets[1], nil).Public())
		require.Zero(t, r.Stats().Failed.Load())
	})
}
