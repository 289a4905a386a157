package cmq

import "strings"

// MaxNameLength is the published limit of the length of a queue's name, in bytes (all are ASCII).
const MaxNameLength = 64

// ValidName reports whether name may be the name of a queue: 1 to 64 characters, first a letter, then
// letters, digits, '-' and '_'. The published rule has no '_'; official clients allow it, so we do.
func ValidName[T ~string | ~[]byte](name T) bool {
	if len(name) == 0 || len(name) > MaxNameLength || !isLetter(name[0]) {
		return false
	}
	for i := 1; i < len(name); i++ {
		c := name[i]
		if !isLetter(c) && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// FoldName is the form under which a valid name is looked up: names that differ only in case are the same.
func FoldName(name string) string { return strings.ToLower(name) }
