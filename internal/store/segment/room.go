package segment

import (
	"errors"
	"syscall"
)

// smallShare is which part of a usual segment one has that is made on a full disk.
const smallShare = 8

// makeNow makes the next segment, with want bytes at least. On a full disk it tries a small one, and then asks for room.
func (l *Log) makeNow(want int64) (*segment, error) {
	size, small := max(l.opt.SegmentSize, want), max(l.opt.SegmentSize/smallShare, minSegmentSize, want)
	for {
		head, err := l.nextHeader(size)
		if err != nil {
			return nil, err
		}
		m := l.makeSpare(head)
		switch {
		case !full(m.err):
			return m.seg, m.err
		case size > small:
			size = small
		case l.opt.Room == nil || !l.opt.Room():
			return nil, m.err
		}
	}
}

// full tells whether there were no bytes, or no inode, for something.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
