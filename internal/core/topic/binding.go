package topic

import "strings"

// A binding key is words separated by dots, of which "*" stands for one word that is not empty and "#" for any number of
// words. To try every number for every "#" takes exponential time for keys like #.a.#.a.#.b, and any client may send
// one. So all numbers are tried at once: the key is a machine that has read some of its words, and after each word of the
// routing key the set of places it may have got to is a few bits.
//
//	binding key    a . # . b        places 0 to 3, of which 3 is the end
//	routing key    a                {1, 2}       "#" may stand for nothing, so place 2 is reached with place 1
//	               a . b            {1, 2, 3}    the end is among them: it matches
//
// That takes (words of the routing key) × (words of the binding key) comparisons at most.
type binding struct {
	words []string
	any   uint64 // bit i: word i is "#"
	one   uint64 // bit i: word i is "*"
	never bool   // too long for the bits; no door lets such a key in
}

// maxWords leaves one bit for the place behind the last word.
const maxWords = 63

func bind(key string) binding {
	var b binding
	for word := range words(key) {
		last := len(b.words) - 1
		if word == "#" && last >= 0 && b.words[last] == "#" {
			continue // two of them stand for no more than one
		}
		if len(b.words) == maxWords {
			return binding{never: true}
		}
		switch bit := uint64(1) << len(b.words); word {
		case "#":
			b.any |= bit
		case "*":
			b.one |= bit
		}
		b.words = append(b.words, word)
	}
	return b
}

// words visits the words of a key. The empty key has none; in any other, two dots have an empty word between them, as
// have a dot and the key's begin or end.
func words(key string) func(yield func(string) bool) {
	if key == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(key, ".")
}

// match reports whether the binding key matches a routing key.
func (b *binding) match(key string) bool {
	if b.never {
		return false
	}
	at := b.skip(1)
	for word := range words(key) {
		if at = b.skip(b.step(at, word)); at == 0 {
			return false
		}
	}
	return at>>len(b.words) != 0
}

// skip adds the places that are reached when a "#" stands for nothing. No two of them are neighbours.
func (b *binding) skip(at uint64) uint64 { return at | at&b.any<<1 }

// step gives the places that are reached with the word.
func (b *binding) step(at uint64, word string) uint64 {
	next := at & b.any
	if word != "" {
		next |= at & b.one << 1
	}
	for i, w := range b.words {
		if bit := uint64(1) << i; at&bit != 0 && (b.any|b.one)&bit == 0 && w == word {
			next |= bit << 1
		}
	}
	return next
}
