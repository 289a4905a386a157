// Package faults breaks real things under real processes: a Disk whose power fails, that is full, read-only, out of
// inodes or hung; a Device below it that loses, tears, misdirects and refuses writes, or is slow; Syscalls of a process that fail
// or are slow; a Flip of one byte of a file; Descriptors that run out. Each has a test of its own that shows that it
// bites.
//
// Tests call Privileged first, which skips them where they may not do that: they mount file systems and trace
// processes, so they run as root, and only when CMQ_FAULTS is set, as make test-faults does. Everything they do is
// undone when the test ends. Confine, called by TestMain, makes that sure even if the test process is killed.
package faults
