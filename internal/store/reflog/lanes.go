package reflog

import "hash/maphash"

// lanes finds the lanes of a table by key. It is a hash table in many parts, so that none takes long to grow and an Add never
// waits for more than some thousand entries to be moved; Go's own map takes twice the time and memory with a million new
// lanes. There is no way to remove one.
type lanes struct {
	seed  maphash.Seed
	parts [laneParts]lanePart
	slabs [][]lane
	n     int
}

const (
	laneParts = 256
	slabSize  = 256 // lanes that are allocated together
)

// lanePart holds, for each lane, 32 bits of its key's hash and its number, from 1; 0 is free. It is a power of two long and never
// more than three quarters full. With the hash beside it a lane is seldom looked at in vain.
type lanePart struct {
	slots []uint64
	n     int
}

func newLanes() lanes { return lanes{seed: maphash.MakeSeed()} }

func (s *lanes) at(slot uint64) *lane {
	number := uint32(slot) - 1
	return &s.slabs[number/slabSize][number%slabSize]
}

// part is where the key belongs, and the part of its hash that is kept there.
func (s *lanes) part(k Key) (p *lanePart, hash uint32) {
	h := maphash.Comparable(s.seed, k)
	return &s.parts[h%laneParts], uint32(h >> 32)
}

func (s *lanes) get(k Key) *lane {
	p, hash := s.part(k)
	if len(p.slots) == 0 {
		return nil
	}
	if slot := *s.find(p, hash, k); slot != 0 {
		return s.at(slot)
	}
	return nil
}

// find is the slot of the key, or the free one where it belongs. The part must have slots.
func (s *lanes) find(p *lanePart, hash uint32, k Key) *uint64 {
	mask := uint32(len(p.slots) - 1)
	for i := hash; ; i++ {
		slot := &p.slots[i&mask]
		if *slot == 0 || uint32(*slot>>32) == hash && s.at(*slot).key == k {
			return slot
		}
	}
}

// set makes a new lane, in the place of an older one of the same key if there is one.
func (s *lanes) set(k Key) *lane {
	p, hash := s.part(k)
	if p.n >= len(p.slots)/4*3 {
		p.grow()
	}
	if s.n%slabSize == 0 {
		s.slabs = append(s.slabs, make([]lane, slabSize))
	}
	s.n++
	slot := s.find(p, hash, k)
	if *slot == 0 {
		p.n++
	}
	*slot = uint64(hash)<<32 | uint64(s.n)
	ln := s.at(*slot)
	ln.key = k
	return ln
}

func (p *lanePart) grow() {
	old := p.slots
	p.slots = make([]uint64, max(8, 2*len(old)))
	mask := uint32(len(p.slots) - 1)
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		i := uint32(slot >> 32)
		for p.slots[i&mask] != 0 {
			i++
		}
		p.slots[i&mask] = slot
	}
}

// keys appends those of all lanes.
func (s *lanes) keys(all []Key) []Key {
	for i := range s.parts {
		for _, slot := range s.parts[i].slots {
			if slot != 0 {
				all = append(all, s.at(slot).key)
			}
		}
	}
	return all
}
