//go:build linux

package faults

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// sectorSize is what a disk writes whole or not at all.
const sectorSize = 512

// longestOutage is after how long a device without power answers with errors in any case, so that no process waits for
// it for ever.
const longestOutage = 20 * time.Second

// Device is the inside of a disk, sector by sector: what has been flushed and, apart, all that was written since. So a
// power cut may lose any part of what was written, in any order, as a real disk's cache does. It can also lie and fail.
// A Disk made with DiskOptions.Device stands on one; sectors count from the beginning of the device.
//
// All methods are safe for concurrent use.
type Device struct {
	size int64
	file *os.File // what a read sees: all writes

	mu sync.Mutex
	// pending are the sectors written since the last flush: the content that is durable, then what was written over
	// it, in order.
	pending map[int64][][]byte
	stats   Stats
	ill     illness
	outage  chan struct{} // closed when an outage has become errors; nil: there is power
	dead    bool          // there is none, and requests fail
}

// illness is what is wrong with a device.
type illness struct {
	write, flush           syscall.Errno // what these answer; 0: they work
	writeDelay, flushDelay time.Duration
	lose                   func(sector int64) bool
	move                   func(sector int64) int64
}

// Stats count what a device did.
type Stats struct {
	Writes, Flushes int // requests
	Lost, Moved     int // sectors that were acknowledged and did not get where they belong
	Failed          int // requests answered with an error
}

// Tear is what power cuts did to the sectors that were pending.
type Tear struct {
	Kept, Dropped int // as it was written last, and as it was before
	Between       int // as it was written, but not last
}

func newDevice(file *os.File, size int64) *Device {
	return &Device{size: size, file: file, pending: make(map[int64][][]byte)}
}

// Stats counts since the device was made.
func (d *Device) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// Pending is how many sectors a power cut could lose now.
func (d *Device) Pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pending)
}

// FailWrites makes all writes fail with an error, FailFlushes all flushes; 0: none.
func (d *Device) FailWrites(errno syscall.Errno) { d.change(func(i *illness) { i.write = errno }) }

// FailFlushes see FailWrites.
func (d *Device) FailFlushes(errno syscall.Errno) { d.change(func(i *illness) { i.flush = errno }) }

// Slow makes each write and each flush take this much longer.
func (d *Device) Slow(write, flush time.Duration) {
	d.change(func(i *illness) { i.writeDelay, i.flushDelay = write, flush })
}

// Lose makes the device acknowledge writes of the sectors that which says yes to, and not write them; nil: none.
func (d *Device) Lose(which func(sector int64) bool) { d.change(func(i *illness) { i.lose = which }) }

// Misdirect makes the device write sectors to where to says; nil: all to their place.
func (d *Device) Misdirect(to func(sector int64) int64) { d.change(func(i *illness) { i.move = to }) }

func (d *Device) change(f func(*illness)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.ill)
}

// powerOff begins an outage: from now on no request changes anything and none is answered, not even with an error, until
// fail or longestOutage.
func (d *Device) powerOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.outage == nil {
		d.outage = make(chan struct{})
		time.AfterFunc(longestOutage, d.fail)
	}
}

// fail answers all requests of an outage with EIO, those that wait and those to come.
func (d *Device) fail() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.outage != nil && !d.dead {
		d.dead = true
		close(d.outage)
	}
}

// powerOn ends an outage: each pending sector is as it was or as one of the writes left it, as chance will have it.
func (d *Device) powerOn(chance *rand.Rand) (Tear, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	tear := Tear{}
	order := make([]int64, 0, len(d.pending))
	for n := range d.pending {
		order = append(order, n)
	}
	slices.Sort(order)
	share := keep(chance)
	for _, n := range order {
		versions := d.pending[n]
		last := len(versions) - 1
		which := last
		if chance.Float64() >= share {
			which = chance.IntN(last)
		}
		switch which {
		case last:
			tear.Kept++
			continue
		case 0:
			tear.Dropped++
		default:
			tear.Between++
		}
		if _, err := d.file.WriteAt(versions[which], n*sectorSize); err != nil {
			return tear, err
		}
	}
	clear(d.pending)
	d.outage, d.dead = nil, false
	return tear, nil
}

// keep is which part of the pending sectors a power cut keeps: mostly any, and now and then all or nothing, which is the end
// of a disk with a large cache or with none.
func keep(chance *rand.Rand) float64 {
	switch chance.IntN(8) {
	case 0:
		return 0
	case 1:
		return 1
	}
	return chance.Float64()
}

// enter waits while there is no power and locks the device.
func (d *Device) enter() error {
	for {
		d.mu.Lock()
		switch outage := d.outage; {
		case d.dead:
			d.stats.Failed++
			d.mu.Unlock()
			return syscall.EIO
		case outage != nil:
			d.mu.Unlock()
			<-outage
		default:
			return nil
		}
	}
}

// linger waits as long as an illness says.
func (d *Device) linger(delay func(*illness) time.Duration) {
	d.mu.Lock()
	by := delay(&d.ill)
	d.mu.Unlock()
	if by > 0 {
		<-time.After(by)
	}
}

// read fills p from off.
func (d *Device) read(p []byte, off int64) (int, error) {
	if err := d.enter(); err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	if off >= d.size {
		return 0, nil
	}
	return d.file.ReadAt(p[:min(int64(len(p)), d.size-off)], off)
}

// write writes whole sectors.
func (d *Device) write(p []byte, off int64) error {
	if off%sectorSize != 0 || len(p)%sectorSize != 0 || off+int64(len(p)) > d.size {
		return syscall.EINVAL
	}
	d.linger(func(i *illness) time.Duration { return i.writeDelay })
	if err := d.enter(); err != nil {
		return err
	}
	defer d.mu.Unlock()
	d.stats.Writes++
	if d.ill.write != 0 {
		d.stats.Failed++
		return d.ill.write
	}
	for ; len(p) > 0; p, off = p[sectorSize:], off+sectorSize {
		if err := d.writeSector(p[:sectorSize], off/sectorSize); err != nil {
			return err
		}
	}
	return nil
}

func (d *Device) writeSector(p []byte, n int64) error {
	if d.ill.lose != nil && d.ill.lose(n) {
		d.stats.Lost++
		return nil
	}
	if d.ill.move != nil {
		if to := d.ill.move(n); to != n {
			d.stats.Moved++
			n = to
		}
	}
	versions := d.pending[n]
	if versions == nil {
		durable := make([]byte, sectorSize)
		if _, err := d.file.ReadAt(durable, n*sectorSize); err != nil {
			return err
		}
		versions = append(versions, durable)
	}
	d.pending[n] = append(versions, slices.Clone(p))
	_, err := d.file.WriteAt(p, n*sectorSize)
	return err
}

// flush makes all writes durable that have been acknowledged.
func (d *Device) flush() error {
	d.linger(func(i *illness) time.Duration { return i.flushDelay })
	if err := d.enter(); err != nil {
		return err
	}
	defer d.mu.Unlock()
	d.stats.Flushes++
	if d.ill.flush != 0 {
		d.stats.Failed++
		return d.ill.flush
	}
	clear(d.pending)
	return nil
}

// errno is the number of an error.
func errno(err error) syscall.Errno {
	var n syscall.Errno
	if err != nil && !errors.As(err, &n) {
		return syscall.EIO
	}
	return n
}
