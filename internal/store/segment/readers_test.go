package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/vfs"
)

// readers read a log from several goroutines until stop is called, in every way there is, and check what they see against twin.
type readers struct {
	l     *Log
	twin  []Entry // never changes
	holes bool    // entries may be lost
	ended atomic.Bool
	done  sync.WaitGroup
}

func startReaders(t *testing.T, l *Log, twin []Entry, holes bool) *readers {
	r := &readers{l: l, twin: twin, holes: holes}
	var begun sync.WaitGroup
	begun.Add(4)
	for i := range 4 {
		r.done.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for first := true; first || !r.ended.Load(); first = false {
				if err := r.read(rng, 1+rng.Uint64N(uint64(len(twin)))); err != nil {
					t.Error(err)
					r.ended.Store(true)
				}
				if first {
					begun.Done()
				}
			}
		})
	}
	begun.Wait()
	return r
}

func (r *readers) stop() {
	r.ended.Store(true)
	r.done.Wait()
}

func (r *readers) read(rng *rand.Rand, index uint64) error {
	var e Entry
	var err error
	switch rng.IntN(4) {
	case 0:
		e, err = r.l.Entry(index)
	case 1:
		var es []Entry
		if es, err = r.l.Entries(index, index+1, 1); err == nil {
			e = es[0]
		}
	case 2:
		e = r.twin[index-1]
		var p Payload
		if p, err = r.l.Payload(index); err == nil {
			e.Data = make([]byte, p.Size())
			_, err = p.ReadAt(e.Data, 0)
		}
	case 3:
		first, last := r.l.Numbers()
		holes, err := r.l.Verify(first+rng.Uint64N(last-first+1), func(int) error { return nil })
		if len(holes) > 0 && !r.holes {
			return fmt.Errorf("damage where there is none: %+v", holes)
		}
		return err
	}
	if r.holes && isDamage(err) {
		return nil
	}
	if err == nil && !same(e, r.twin[index-1]) {
		err = errors.New("it is another")
	}
	if err != nil {
		return fmt.Errorf("entry %d: %w", index, err)
	}
	return nil
}

func TestReadersWhileSegmentsAreWrittenAnew(t *testing.T) {
	rig := newHealRig(t, true)
	l, err := rig.open(t, rig.disk)
	must(t, err)
	r := startReaders(t, l, rig.twin, false)
	get := func(lo, hi uint64) ([]Entry, error) { return rig.twin[lo-1 : hi-1], nil }
	next := uint64(len(rig.twin) + 1)
	for round := range 30 {
		first, last := l.Numbers()
		for n := first; n < last; n++ {
			must(t, l.Rebuild(n, get))
		}
		term := uint64(100 + round)
		must(t, l.Append(entries(term, 300, span(next, next+8)...), HardState{}, round%2 == 0))
		must(t, l.Append(entries(term+1, 300, span(next, next+4)...), HardState{}, true))
	}
	r.stop()
	must(t, l.Close())
}

func TestReadersWhileHolesAreFilled(t *testing.T) {
	rig := newHealRig(t, true)
	for round := range 10 {
		disk := rig.disk.Clone(rand.New(rand.NewPCG(uint64(round), 1)))
		for i, name := range rig.names {
			if _, ok := fileNumber(name); ok && i%2 == round%2 {
				must(t, disk.Flip("/log/"+name, int64(headerSize+round), 1))
			}
		}
		l, err := rig.open(t, disk)
		must(t, err)
		require.NotEmpty(t, l.Holes())
		r := startReaders(t, l, rig.twin, true)
		rig.heal(t, l)
		r.stop()
		rig.whole(t, l)
		must(t, l.Close())
	}
}

// TestPayloadOutlivesItsFile reads on where the file was replaced in the middle, and learns when the segment has left the log.
func TestPayloadOutlivesItsFile(t *testing.T) {
	rig := newHealRig(t, true)
	l, err := rig.open(t, rig.disk)
	must(t, err)
	p, err := l.Payload(1)
	must(t, err)
	must(t, l.Rebuild(1, func(lo, hi uint64) ([]Entry, error) { return rig.twin[lo-1 : hi-1], nil }))
	b := make([]byte, p.Size())
	_, err = p.ReadAt(b, 0)
	must(t, err)
	require.Equal(t, rig.twin[0].Data, b)
	must(t, l.Forget(1))
	_, err = p.ReadAt(b, 0)
	require.ErrorIs(t, err, os.ErrClosed)
	must(t, l.Close())
	rig.disk.Crash(vfs.KillProcess)
}
