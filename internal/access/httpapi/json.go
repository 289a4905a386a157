package httpapi

import (
	"strconv"
	"unicode/utf8"
)

// appendString appends s as a JSON string.
func appendString(to []byte, s string) []byte { return appendBytes(to, []byte(s)) }

// appendBytes appends b as a JSON string. Valid UTF-8 goes out as it is but for '"', '\\' and control
// characters; every byte that is not part of valid UTF-8 becomes U+FFFD, because JSON cannot carry it.
func appendBytes(to, b []byte) []byte {
	to = append(to, '"')
	start := 0 // of what is not yet copied
	for i := 0; i < len(b); {
		c := b[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			to = appendEscape(append(to, b[start:i]...), c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			to = append(append(to, b[start:i]...), "\uFFFD"...)
			start = i + 1
		}
		i += size
	}
	return append(append(to, b[start:]...), '"')
}

func appendEscape(to []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(to, '\\', c)
	case '\b':
		return append(to, '\\', 'b')
	case '\f':
		return append(to, '\\', 'f')
	case '\n':
		return append(to, '\\', 'n')
	case '\r':
		return append(to, '\\', 'r')
	case '\t':
		return append(to, '\\', 't')
	}
	return append(to, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// appendQuotedUint appends n as a JSON string of decimal digits, the form of ids and handles.
func appendQuotedUint(to []byte, n uint64) []byte {
	return append(strconv.AppendUint(append(to, '"'), n, 10), '"')
}
