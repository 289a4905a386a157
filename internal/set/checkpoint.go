package set

import (
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/reflog"
)

const (
	// sliceBytes is how much of an image is encoded between two turns of the loop: about a millisecond's work.
	sliceBytes = 256 << 10
	// maxMissing is how many missing messages one look finds; the next one finds the rest.
	maxMissing = 16 << 10
	// pressedEvery is the time between images while the own disk is full: what is dead must go soon.
	pressedEvery = 2 * time.Second
)

// errStop ends a background job that is in somebody's way.
var errStop = errors.New("the background job was stopped")

// checkpoints decides when the state is written out, which is what lets the log's beginning go. The state is encoded in
// slices between turns of the loop; what needs the disk is one job in the background.
type checkpoints struct {
	bytes   int           // of log applied since the newest image
	since   time.Duration // when the newest image was done
	last    uint64        // its index
	size    int           // its bytes
	again   bool          // the newest two images are of the same index
	wanted  int           // how many images in any case
	coding  bool          // an image is being encoded
	running bool          // a job is out
	started bool          // the first one, which is about room for all others, was
	image   store.Image   // being made
	conf    *raftpb.ConfState
	stop    *atomic.Bool // of the job that is out
}

// want has n images made in any case. With two, everything before the newest can leave the log.
func (c *checkpoints) want(n int) { c.wanted = max(c.wanted, n) }

// due tells whether it is time for an image. When nothing happens for long there is one more of the same index: then both
// images that are kept are the newest, and the log before can go.
func (c *checkpoints) due(r *Replica, now Now) bool {
	if r.pull != nil && r.pull.done || r.repair != nil || r.failed != nil || r.applied == 0 {
		return false
	}
	every := r.cfg.ImageEvery
	if r.disks.own > SpaceOK {
		every = min(every, pressedEvery)
	}
	waited := now.Mono-c.since >= every
	switch {
	case c.wanted > 0:
		return true
	case r.applied == c.last:
		return waited && !c.again
	default:
		return waited || c.bytes >= max(r.cfg.ImageBytes, 2*c.size)
	}
}

// step begins an image when it is due, and goes on with the one being encoded.
func (c *checkpoints) step(r *Replica, now Now) {
	switch {
	case c.running:
	case !c.started:
		c.keepBallast(r)
	case c.coding:
		c.encode(r, now)
	case c.due(r, now):
		c.image = store.Image{Image: checkpoint.Image{Index: r.applied, Term: r.appTerm, Time: r.machine.Time(), ConfState: mustMarshal(r.conf)}}
		c.conf = r.conf
		c.wanted, c.coding = max(c.wanted-1, 0), true
		c.bytes = 0
		r.machine.StartImage()
		c.encode(r, now)
	}
}

// keepBallast makes room for a full disk before the first image does.
func (c *checkpoints) keepBallast(r *Replica) {
	c.started = true
	if r.disks.own != SpaceOK {
		return
	}
	c.running, c.stop = true, new(atomic.Bool)
	r.jobs = append(r.jobs, &Job{Class: Maintenance, run: r.storage.store.KeepBallast, done: func(_ Now, err error) {
		c.running = false
		switch {
		case err == nil:
		case noRoom(err):
			r.log.Warn("no room is kept for a full disk yet", "error", err)
		default:
			r.fail(err)
		}
	}})
}

func (c *checkpoints) encode(r *Replica, now Now) {
	if !r.machine.StepImage(sliceBytes) {
		return
	}
	c.coding, c.running = false, true
	c.start(r, now, r.machine.TakeImage())
}

// wake is when step has something to do though nothing arrives.
func (c *checkpoints) wake(now Now) time.Duration {
	if c.coding {
		return now.Mono
	}
	return 0
}

// halt ends the background job, because the files or the state are about to be replaced. It reports whether it is out of the way
// already; if not, it soon is.
func (c *checkpoints) halt() bool {
	if c.running {
		c.stop.Store(true)
	}
	return !c.running
}

// replaced notes that the state is another one now, of which there is an image.
func (c *checkpoints) replaced(now Now, index uint64, size int) {
	c.bytes, c.since, c.last, c.size, c.again, c.coding = 0, now.Mono, index, size, false, false
}

// chores are what the background job does beside the image, and what it finds.
type chores struct {
	keepFrom uint64
	sick     *sickFile
	missing  []store.Ref
	roomy    bool // the disk has room for the ballast
}

func (c *checkpoints) start(r *Replica, _ Now, job ImageJob) {
	image, conf, st := c.image, c.conf, r.storage.store
	c.stop = new(atomic.Bool)
	throttle := r.throttle(r.cfg.MaintainRate, c.stop)
	work := &chores{keepFrom: r.keepFrom(), sick: r.scrub.first(), roomy: r.disks.own == SpaceOK}
	saved := false
	r.jobs = append(r.jobs, &Job{
		Class: Maintenance, Bytes: c.bytes,
		run: func() error {
			parts, files, live, err := job.Run(throttle)
			if err == nil {
				image.Parts, image.Refs = parts, files
				err = st.SaveImage(image)
			}
			if err == nil {
				saved = true
				err = work.run(st, live, throttle)
			}
			if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
				st.MakeRoom() // for the next one, which is tried soon: only an image lets go of what is dead
			}
			return err
		},
		done: func(now Now, err error) {
			size := 0
			for _, p := range image.Parts {
				size += len(p)
			}
			image.Parts = nil
			c.running, c.since = false, now.Mono
			if !saved {
				job.Done(err)
				c.failed(r, err)
				return
			}
			job.Done(nil)
			c.again = image.Index == c.last
			c.last, c.size = image.Index, size
			if image.Index >= r.storage.image.Index {
				r.storage.image, r.storage.conf = image, conf
			}
			r.choresDone(now, work)
			c.failed(r, err)
		},
	})
}

// failed tells what became of a job. Lack of room passes; damage is found and healed by the scrubber.
func (c *checkpoints) failed(r *Replica, err error) {
	switch {
	case err == nil, errors.Is(err, errStop):
	case noRoom(err):
		r.log.Error("no space left for an image of the state; trying again later", "error", err)
	case errors.As(err, new(*reflog.PartialError)) && len(r.others()) == 0:
		r.log.Warn("references are damaged and there is no other replica: files that they may lead to stay as they are; cmq doctor says what to do", "error", err)
	case isDamage(err):
		r.log.Warn("damage was found while an image was made", "error", err)
		r.scrub.soon()
	default:
		r.fail(err)
	}
}

// run does what an image makes possible: it heals sick files, lets go of what is dead, and looks whether anything is missing. Damaged
// references are in nobody's way but that of the files they may lead to; they are the error in the end.
func (w *chores) run(st *store.Store, live store.Live, throttle func(int) error) error {
	var partial *reflog.PartialError
	if live != nil && w.sick != nil {
		if err := w.sick.treat(st, live, throttle); err != nil && !errors.As(err, &partial) {
			return err
		}
	}
	if _, err := st.Maintain(live, w.keepFrom, throttle); err != nil {
		return err
	}
	if w.roomy {
		if err := st.KeepBallast(); err != nil && !noRoom(err) {
			return err
		}
	}
	if live == nil {
		return nil
	}
	err := st.Missing(live, throttle, func(ref store.Ref) error {
		if w.missing = append(w.missing, ref); len(w.missing) >= maxMissing {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if partial != nil {
		return partial
	}
	return nil
}

var errEnough = errors.New("enough was found")

// keepFrom is the first entry the set wants this replica's log to keep: for followers that lag a little, and for replicas being
// filled.
func (r *Replica) keepFrom() uint64 {
	low := r.pins.lowest()
	if r.rn == nil || r.leader != r.id {
		return low
	}
	for _, p := range r.rn.Status().Progress {
		if next := p.Match + 1; next < low && r.storage.behind(next) <= r.cfg.KeepLag {
			low = next
		}
	}
	return low
}

// throttle makes a background job wait so that it takes about so many bytes a second.
func (r *Replica) throttle(rate int, stop *atomic.Bool) func(int) error {
	pause := r.pause
	return func(bytes int) error {
		if stop != nil && stop.Load() {
			return errStop
		}
		if pause == nil || rate <= 0 {
			return nil
		}
		return pause(time.Duration(bytes) * time.Second / time.Duration(rate))
	}
}
