package store

// RefSet is a set of messages. A message that was published once is needed by every queue that refers to it, and Live names it
// as often; who copies it or asks for it must do so once. Messages of one entry share the memory, so the living ones of a
// file of 64 MiB take a few megabytes.
type RefSet map[refWord]uint64

// refWord is 64 consecutive slots of an entry.
type refWord struct {
	index uint64
	word  uint16
}

// Add puts a message into the set and reports whether it was not there before.
func (s RefSet) Add(ref Ref) (added bool) {
	w, bit := refWord{ref.Index, ref.Slot / 64}, uint64(1)<<(ref.Slot%64)
	before := s[w]
	s[w] = before | bit
	return before&bit == 0
}

// fresh adds the messages of a run and counts those that were not there before.
func (s RefSet) fresh(run Run) (n int) {
	for i := range run.N {
		if s.Add(Ref{Index: run.Index, Slot: run.Slot + i}) {
			n++
		}
	}
	return n
}
