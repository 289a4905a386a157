package httpapi

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/opencmq/cmq/internal/auth"
	"github.com/opencmq/cmq/internal/cmq"
)

// parseForm appends the parameters of an application/x-www-form-urlencoded text to params. It decodes in place:
// the parameters point into text, which must not change as long as they are used. what names the text in
// errors.
//
//	form    = [ pair ] *( "&" [ pair ] )
//	pair    = name [ "=" value ]        no "=" means an empty value
//	name, value: "+" is a blank, "%" HEX HEX one byte, every other byte itself
func parseForm(params []auth.Param, text []byte, what string, max int) ([]auth.Param, error) {
	for len(text) > 0 {
		var pair []byte
		pair, text = cut(text, '&')
		if len(pair) == 0 {
			continue
		}
		if len(params) == max {
			return params, cmq.ErrParameters
		}
		name, value := cut(pair, '=')
		name, nameOK := unescape(name)
		value, valueOK := unescape(value)
		if !nameOK || !valueOK {
			return params, cmq.ErrUnparsable(what)
		}
		if len(name) == 0 {
			return params, cmq.ErrParameterKey("")
		}
		params = append(params, auth.Param{Name: name, Value: value})
	}
	return params, nil
}

func cut(text []byte, separator byte) (before, after []byte) {
	if i := bytes.IndexByte(text, separator); i >= 0 {
		return text[:i:i], text[i+1:]
	}
	return text, text[len(text):]
}

// unescape decodes in place and returns the decoded part, which is not nil.
func unescape(b []byte) (decoded []byte, ok bool) {
	from := firstEscape(b)
	to := from
	for from < len(b) {
		switch c := b[from]; c {
		case '+':
			b[to] = ' '
			from++
		case '%':
			if from+2 >= len(b) {
				return nil, false
			}
			high, low := unhex(b[from+1]), unhex(b[from+2])
			if high|low > 15 {
				return nil, false
			}
			b[to] = high<<4 | low
			from += 3
		default:
			b[to] = c
			from++
		}
		to++
	}
	return b[:to:to], true
}

// firstEscape is the place of the first byte that stands for another, or the length.
func firstEscape(b []byte) int {
	if i := bytes.IndexByte(b, '%'); i >= 0 {
		b = b[:i]
	}
	if i := bytes.IndexByte(b, '+'); i >= 0 {
		return i
	}
	return len(b)
}

// unhex gives the value of a hexadecimal digit, or more than 15.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// refuseDuplicates refuses a sorted list in which a name stands twice, and one in which two names differ only
// in '_' and '.': the signature takes these for the same name, so somebody on the way could swap them.
func refuseDuplicates(params []auth.Param) error {
	underscore := false
	for i := range params {
		if i > 0 && bytes.Equal(params[i-1].Name, params[i].Name) {
			return cmq.ErrParameterRepeated(string(params[i].Name))
		}
		underscore = underscore || bytes.IndexByte(params[i].Name, '_') >= 0
	}
	if !underscore {
		return nil
	}
	return refuseLookalikes(params)
}

// refuseLookalikes is the second part. It runs before anybody has said who he is, so it sorts: to compare each name with
// each other takes seconds when they are long.
func refuseLookalikes(params []auth.Param) error {
	type name struct{ given, signed []byte }
	names := make([]name, len(params))
	for i := range params {
		names[i] = name{params[i].Name, bytes.ReplaceAll(params[i].Name, []byte("_"), []byte("."))}
	}
	slices.SortFunc(names, func(a, b name) int {
		return cmp.Or(bytes.Compare(a.signed, b.signed), bytes.Compare(a.given, b.given))
	})
	for i := 1; i < len(names); i++ {
		if bytes.Equal(names[i-1].signed, names[i].signed) {
			return cmq.ErrParameterKey(string(names[i].given)) // '_' sorts behind '.'
		}
	}
	return nil
}
