package queue

// deadRun is a run of messages on their way to the dead-letter queue, with consecutive transfer numbers.
type deadRun struct {
	number uint64 // of the first message
	run
}

// deadList holds the messages that are to move to the dead-letter queue, in the order they died. Each has a
// transfer number, which is never used again: whoever carries the message over may repeat himself, and
// the other side knows by the number what it has.
//
// A million messages that die of age at once are one run.
type deadList struct {
	runs []deadRun // by number
	n    uint64    // messages
	next uint64    // number for the next one to die
}

// len counts the messages; of no list, too.
func (d *deadList) len() uint64 {
	if d == nil {
		return 0
	}
	return d.n
}

// list gives the runs; of no list, too.
func (d *deadList) list() []deadRun {
	if d == nil {
		return nil
	}
	return d.runs
}

// number gives the number for the next one to die.
func (d *deadList) number() uint64 {
	if d == nil {
		return 0
	}
	return d.next
}

func (d *deadList) add(r run) {
	if r.n == 0 {
		return
	}
	number := d.next
	d.next += r.n
	d.n += r.n
	if last := len(d.runs) - 1; last >= 0 && d.runs[last].extends(number, r) {
		d.runs[last].n += r.n
		return
	}
	d.runs = append(d.runs, deadRun{number, r})
}

// extends reports whether r, numbered from number, can be appended to the run.
func (d deadRun) extends(number uint64, r run) bool {
	return d.number+d.n == number && d.lane == r.lane && d.seq+d.n == r.seq &&
		d.count == r.count && d.first == r.first
}

// find gives the position of the message with the number, if it is still there.
func (d *deadList) find(number uint64) (lane int64, seq uint64, ok bool) {
	for _, r := range d.list() {
		if r.number > number {
			break
		}
		if number < r.number+r.n {
			return r.lane, r.seq + number - r.number, true
		}
	}
	return 0, 0, false
}

// forget takes out the messages numbered below number, visiting them.
func (d *deadList) forget(number uint64, visit func(run)) {
	if d == nil {
		return
	}
	done := 0
	for i := range d.runs {
		r := &d.runs[i]
		if r.number >= number {
			break
		}
		k := min(r.n, number-r.number)
		arrived, rest := r.split(r.seq + k)
		r.number, r.run = r.number+k, rest
		d.n -= k
		visit(arrived)
		if rest.n > 0 {
			break
		}
		done++
	}
	d.runs = d.runs[done:]
	if len(d.runs) == 0 {
		d.runs = nil
	}
}

// below takes out the messages of the lane whose position is below limit. Their numbers remain unused.
func (d *deadList) below(lane int64, limit uint64, visit func(run)) {
	if d.len() == 0 {
		return
	}
	kept := d.runs[:0]
	for _, r := range d.runs {
		if r.lane == lane && r.seq < limit {
			under, rest := r.split(limit)
			d.n -= under.n
			visit(under)
			r.number, r.run = r.number+under.n, rest
		}
		if r.n > 0 {
			kept = append(kept, r)
		}
	}
	d.runs = kept
}
