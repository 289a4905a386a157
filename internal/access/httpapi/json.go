package httpapi

import (
	"strconv"
	"unicode/utf8"
)

// appendString appends s as a JSON string. Valid UTF-8 goes out as it is but for '"', '\' and control
// characters; every byte that is not part of valid UTF-8 becomes U+FFFD, because JSON cannot carry it.
func appendString[T ~string | ~[]byte](to []byte, s T) []byte {
	to = append(to, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			to = append(to, s[start:i]...)
			to = appendEscape(to, c)
			i++
			start = i
			continue
		}
		n := validRune(s, i)
		if n == 0 {
			to = append(to, s[start:i]...)
			to = append(to, "\uFFFD"...)
			i++
			start = i
			continue
		}
		i += n
	}
	to = append(to, s[start:]...)
	return append(to, '"')
}

// validRune is the length of the encoded rune at s[i:], or 0 if that is not valid UTF-8.
func validRune[T ~string | ~[]byte](s T, i int) int {
	var b [utf8.UTFMax]byte
	n := copy(b[:], s[i:min(len(s), i+utf8.UTFMax)])
	if r, size := utf8.DecodeRune(b[:n]); r != utf8.RuneError || size > 1 {
		return size
	}
	return 0
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
