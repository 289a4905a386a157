package cmq

import (
	"strings"
	"testing"
)

// TestLongNamesAreCut: what a client made up comes back to it as it is, but not by the megabyte.
func TestLongNamesAreCut(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"Do\x00Nothing", "Do\x00Nothing"},
		{strings.Repeat("n", 128), strings.Repeat("n", 128)},
		{strings.Repeat("n", 1<<20), strings.Repeat("n", 128) + "…"},
		{strings.Repeat("n", 127) + "好", strings.Repeat("n", 127) + "…"},
	} {
		for _, e := range []*Error{ErrAction(c.name), ErrMethod(c.name), ErrParameterKey(c.name), ErrParameterRepeated(c.name)} {
			if !strings.Contains(e.Text, " "+c.want+" ") {
				t.Errorf("%.300q does not have %.300q", e.Text, c.want)
			}
		}
	}
}
