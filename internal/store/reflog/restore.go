package reflog

import (
	"bytes"
	"slices"
)

// A block that no replica can read may still be put together, for the directory in the image has the checksum it must have and what its
// runs must add up to. Bodies with the same runs are the same on all replicas, whatever their files are called and where in them the block
// lies. Salvage tries, in this order:
//
//   - another copy as it is: perhaps only the head of its block was damaged, which the directory knows;
//   - of three copies or more, the byte that most of them have;
//   - where copies differ, this one's bytes here and that one's there (at most maxMixes mixtures);
//   - of each copy, the one byte that makes the checksum right if it is changed.
//
// How often is something wrong taken for right? A wrong mixture has the right checksum once in 2^32, so one in a million blocks of which
// maxMixes were tried; for a block of 6 KiB in which more than one byte is damaged, there is one that seems to put it right in one of 2,800.
// Then the runs must decode, and begin, end and add up in positions, indexes, times and bytes as the directory says, which only slots are free of:
// all of the damage and what was changed beside it must be slots. And if there are two ways that fit, none is taken.

// maxMixes bounds how many mixtures of copies are tried for one block; with a checksum of 6 KiB each that takes milliseconds.
const maxMixes = 4096

// restore puts a block together from damaged copies of it; nil if that cannot be done.
func (b *located) restore(copies [][]byte) []byte {
	for _, p := range copies {
		if b.differs(p) == 0 && b.right(p) {
			return p
		}
	}
	if p := majority(copies); p != nil && b.differs(p) == 0 && b.right(p) {
		return p
	}
	if p := b.mix(copies); p != nil {
		return p
	}
	return b.correct(copies)
}

// majority is what most of the copies have at each place; nil if there are fewer than three.
func majority(copies [][]byte) []byte {
	if len(copies) < 3 {
		return nil
	}
	p := bytes.Clone(copies[0])
	for i := range p {
		most := 0
		for _, c := range copies {
			n := 0
			for _, o := range copies {
				if o[i] == c[i] {
					n++
				}
			}
			if n > most {
				most, p[i] = n, c[i]
			}
		}
	}
	return p
}

// mix takes each stretch in which the copies differ from one of them, in all ways there are.
func (b *located) mix(copies [][]byte) (found []byte) {
	stretches, ways := differences(copies)
	if len(stretches) == 0 {
		return nil
	}
	for way := range ways {
		p := bytes.Clone(copies[0])
		for i, rest := 0, way; i < len(stretches); i, rest = i+1, rest/len(copies) {
			lo, hi := stretches[i][0], stretches[i][1]
			copy(p[lo:hi], copies[rest%len(copies)][lo:hi])
		}
		if b.differs(p) != 0 || !b.right(p) {
			continue
		}
		if found != nil && !bytes.Equal(found, p) {
			return nil
		}
		found = p
	}
	return found
}

// differences are the stretches [lo, hi) in which copies are not all the same, and in how many ways they can be mixed: at most maxMixes. If
// there are too many, those that are near each other count as one, for damage comes in stretches.
func differences(copies [][]byte) (list [][2]int, ways int) {
	if len(copies) < 2 {
		return nil, 0
	}
	for i, x := range copies[0] {
		if slices.ContainsFunc(copies[1:], func(c []byte) bool { return c[i] != x }) {
			list = append(list, [2]int{i, i + 1})
		}
	}
	for near := 0; ; near = 2*near + 1 {
		list = join(list, near)
		if ways = power(len(copies), len(list)); ways <= maxMixes {
			return list, ways
		}
	}
}

// join makes one of stretches with at most so many bytes between them.
func join(list [][2]int, near int) [][2]int {
	joined := list[:0]
	for _, s := range list {
		if n := len(joined); n > 0 && s[0]-joined[n-1][1] <= near {
			joined[n-1][1] = s[1]
		} else {
			joined = append(joined, s)
		}
	}
	return joined
}

// power is base to the n, or more than maxMixes.
func power(base, n int) int {
	p := 1
	for ; n > 0 && p <= maxMixes; n-- {
		p *= base
	}
	return p
}

// correct changes one byte of one of the copies.
func (b *located) correct(copies [][]byte) (found []byte) {
	for _, c := range copies {
		for _, e := range oneByte(b.differs(c), len(c)) {
			p := bytes.Clone(c)
			p[e.at] ^= e.change
			if !b.right(p) {
				continue
			}
			if found != nil && !bytes.Equal(found, p) {
				return nil
			}
			found = p
		}
	}
	return found
}

// wrong is a byte that is not what it should be: by how much it must be changed (xor).
type wrong struct {
	at     int
	change byte
}

// byTop finds an entry of the checksum's table by its top byte, which is a different one for each.
var byTop = func() (index [256]byte) {
	for i, x := range castagnoli {
		index[x>>24] = byte(i)
	}
	return index
}()

// oneByte lists the bytes of n that, changed alone, change the checksum of all by diff. A byte changes it by an entry of the table, and each
// byte behind takes that one step on; so from the end the steps are taken back until what is left is an entry.
func oneByte(diff uint32, n int) (list []wrong) {
	for at := n - 1; at >= 0 && diff != 0; at-- {
		i := byTop[diff>>24]
		if castagnoli[i] == diff {
			list = append(list, wrong{at, i})
		}
		diff = (diff^castagnoli[i])<<8 | uint32(i)
	}
	return list
}

// differs is the checksum that the block has with this body, xor the one it must have.
func (b *located) differs(body []byte) uint32 {
	_, sum := encodeBlockHead(b.file, b.off, body, b.runs, b.lanes)
	return sum ^ b.checksum
}

// right tells whether this is the body, its checksum aside.
func (b *located) right(body []byte) bool {
	got, err := decodeBody(body)
	return err == nil && b.sums(got)
}
