package topic

import (
	"strings"
	"testing"
)

func TestBindingKeys(t *testing.T) {
	for _, r := range []struct {
		binding string
		yes, no string // routing keys, separated by blanks; "-" is the empty one
	}{
		// The table of http-api.md 4.1.
		{"1.*.0", "1.x.0", "1.0 1.x.y.0"},
		{"1.#.0", "1.0 1.2.3.4.4.2.2.0", "1 0 1.2 2.0"},
		{"#", "- a a.b a.b.c . ..", ""},
		{"route.#", "route route.single route.a.b", "routes router.a - a.route"},
		{"*", "a", "a.b - . .a a."},

		{"a", "a", "A b a.a - ab"},
		{"a.b", "a.b", "a.b.c b.a ab a a. .b a..b"},
		{"#.a", "a x.a x.y.a a.a", "a.x - b"},
		{"a.#", "a a.x a.x.y a.", "x.a -"},
		{"#.a.#", "a x.a a.x x.a.y a.a", "- b x.y"},
		{"#.#", "- a a.b a.b.c", ""},
		{"a.#.#.b", "a.b a.x.b a.x.y.b", "a b a.b.c"},
		{"#.a.#.a.#", "a.a x.a.y.a.z a.x.a", "a x.a a.x"},
		{"*.#", "a a.b a.b.c", "- .a .a.b"},
		{"#.*", "a a.b a.b.c .a", "- a. ."},
		{"*.*", "a.b", "a a.b.c - a. .b ."},
		{"*.#.*", "a.b a.x.b a..b", "a - a. .b"},
		{"#.b.*", "b.x a.b.x b.b.x", "b b. b.x.y"},

		// An empty word is a word: "*" does not stand for it, "#" does, and it is like itself.
		{"a..b", "a..b", "a.b a.x.b"},
		{"a.*.b", "a.x.b", "a..b"},
		{"a.#.b", "a..b a...b", "a. .b"},
		{"a.", "a.", "a a.x a.."},
		{".a", ".a", "a x.a ..a"},
		{".", ".", "- a .. a."},
		{"", "-", "a . a.b"},

		// What only contains a wildcard is none.
		{"a*", "a*", "ab a"},
		{"#a.b", "#a.b", "a.b x.a.b"},
		{"**.b", "**.b", "a.b"},
		{"##", "##", "- a"},
		{"a.*", "a.b a.* a.#", "a"},
	} {
		b := bind(r.binding)
		for i, keys := range []string{r.yes, r.no} {
			for _, key := range strings.Fields(keys) {
				if key = strings.TrimPrefix(key, "-"); b.match(key) != (i == 0) {
					t.Errorf("binding key %q, routing key %q: %v", r.binding, key, i != 0)
				}
			}
		}
	}
}

// TestWorstKeysTakeNoTime would not end if every "#" were tried with every number of words.
func TestWorstKeysTakeNoTime(t *testing.T) {
	b := bind(strings.Repeat("#.a.", 31) + "b")
	key := strings.Repeat("a.", 100_000)
	if b.match(key+"a") || !b.match(key+"b") {
		t.Error("wrong")
	}
}

func TestKeyOfTooManyWordsMatchesNothing(t *testing.T) {
	longest := strings.Repeat("a.", maxWords-1) + "a"
	if b := bind(longest); !b.match(longest) {
		t.Error("the longest key does not match itself")
	}
	longer := longest + ".a"
	if b := bind(longer); b.match(longer) || b.match("a") {
		t.Error("a key that is too long matches")
	}
	if b := bind(strings.Repeat("#.", 1000) + "b"); !b.match("a.b") {
		t.Error("a row of # is more than one")
	}
}

// naive is the definition: it tries everything, as slow as that may be.
func naive(binding, key []string) bool {
	switch {
	case len(binding) == 0:
		return len(key) == 0
	case binding[0] == "#":
		return naive(binding[1:], key) || len(key) > 0 && naive(binding, key[1:])
	case len(key) == 0:
		return false
	}
	return (binding[0] == key[0] || binding[0] == "*" && key[0] != "") && naive(binding[1:], key[1:])
}

func split(key string) []string {
	if key == "" {
		return nil
	}
	return strings.Split(key, ".")
}

func FuzzBinding(f *testing.F) {
	for _, seed := range [][2]string{
		{"1.*.0", "1.x.0"}, {"#.a.#.a.#", "a.b.a"}, {"*.#", ".a"}, {"a..b", "a..b"}, {"", ""}, {"#.#", "."}, {"*.*.#.*", "a.b..c"}, {"*", "*"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, binding, key string) {
		if len(binding) > 64 || strings.Count(binding, "#") > 4 || len(key) > 32 {
			return // the naive one does not come to an end
		}
		words := split(binding)
		if len(words) > maxWords {
			return
		}
		b := bind(binding)
		if got, want := b.match(key), naive(words, split(key)); got != want {
			t.Errorf("binding key %q, routing key %q: %v, want %v", binding, key, got, want)
		}
	})
}
