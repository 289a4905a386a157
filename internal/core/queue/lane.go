package queue

// lane is a row of positions that become receivable in the order they were sent. The main lane holds the
// messages sent without delay, every other lane the messages that fall due at one moment.
//
// Invariants: low ≤ floor ≤ cursor ≤ tail and age ≤ tail; skip lies in [cursor, tail) and does not begin
// at cursor; gone lies in [floor, tail) and, above the cursor, within skip.
type lane struct {
	due    int64  // Unix milliseconds; 0: the main lane
	low    uint64 // retention floor: below it every message is gone, whatever it was
	floor  uint64 // rewind floor: deleted messages below it stay deleted; out of date while nothing can be rewound
	age    uint64 // below it messages are too old for dead-letter policy 1
	cursor uint64 // next position to receive for the first time, or again after a rewind
	tail   uint64 // next position to send to

	live   uint64 // positions in flight, returned or dead
	under  uint64 // how many of these lie below floor
	oldest uint64 // no live position lies below it; a bound, because finding the exact one means looking at all

	holes *holes // nil: none, as in almost every lane
}

// holes are the positions of a lane that are not what the marks say. They are never changed in place, so copies of
// a lane may share them.
type holes struct {
	skip spans // positions the cursor passes over: they were in use when a rewind moved it back
	gone spans // positions at or above floor that no rewind brings back: deleted while nothing could be, or moved away
}

func (l *lane) skip() spans {
	if l.holes == nil {
		return spans{}
	}
	return l.holes.skip
}

func (l *lane) gone() spans {
	if l.holes == nil {
		return spans{}
	}
	return l.holes.gone
}

func (l *lane) setSkip(s spans) { l.setHoles(s, l.gone()) }

func (l *lane) setGone(s spans) { l.setHoles(l.skip(), s) }

func (l *lane) setHoles(skip, gone spans) {
	if l.holes = nil; len(skip.list)+len(gone.list) > 0 {
		l.holes = &holes{skip: skip, gone: gone}
	}
}

// pending counts the messages to receive (once the lane is due).
func (l *lane) pending() uint64 { return l.tail - l.cursor - l.skip().n }

// deleted counts the positions at or above floor that are deleted and can be brought back.
func (l *lane) deleted() uint64 {
	return l.cursor - l.floor + l.skip().n - (l.live - l.under) - l.gone().n
}

// seek moves the cursor to at or, where that is to be passed over, behind it.
func (l *lane) seek(at uint64) {
	cursor, skip := l.skip().from(at).pass(at)
	if l.cursor = cursor; l.holes != nil {
		l.setSkip(skip)
	}
}

// next hands out the position at the cursor, of which there must be one.
func (l *lane) next() uint64 {
	seq := l.cursor
	l.cursor++
	if len(l.skip().list) > 0 {
		l.seek(l.cursor)
	}
	l.enlist(seq, 1)
	return seq
}

// enlist counts n positions from seq on as live; none lies below the floor.
func (l *lane) enlist(seq, n uint64) {
	if l.live == 0 || seq < l.oldest {
		l.oldest = seq
	}
	l.live += n
}

// strike counts n positions from seq on as live no longer.
func (l *lane) strike(seq, n uint64) {
	l.live -= n
	if seq < l.floor {
		l.under -= min(n, l.floor-seq)
	}
}
