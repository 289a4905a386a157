package httpapi

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/opencmq/cmq/internal/cmq"
)

// find gives the value of a scalar parameter; nil means it is not there. A scalar that is given as a list
// ("name.1") is refused.
func (c *call) find(name string) ([]byte, error) {
	var value []byte
	for i := range c.params {
		given := c.params[i].Name
		if len(given) < len(name) || string(given[:len(name)]) != name {
			continue
		}
		if len(given) == len(name) {
			value = c.params[i].Value
		} else if given[len(name)] == '.' {
			return nil, cmq.ErrParameterRepeated(name)
		}
	}
	return value, nil
}

// required is find for a parameter that must be there; it may be empty.
func (c *call) required(name string) ([]byte, error) {
	value, err := c.find(name)
	if err == nil && value == nil {
		err = cmq.ErrParameterMissing(name)
	}
	return value, err
}

// queue gives the value of a required parameter that names a queue.
func (c *call) queue(parameter string) (string, error) { return c.name(parameter, cmq.ErrQueueName) }

// name gives the value of a required parameter that is the name of something; malformed says that it is none.
func (c *call) name(parameter string, malformed *cmq.Error) (string, error) {
	value, err := c.required(parameter)
	if err != nil {
		return "", err
	}
	if !cmq.ValidName(value) {
		return "", malformed
	}
	if string(value) != c.named {
		c.named = string(value)
	}
	return c.named, nil
}

// integer gives the value of an optional number, nil if it is not there. Errors: not decimal 10360, outside
// the range 10350.
func (c *call) integer(name string, in cmq.Range) (*int64, error) {
	value, given, err := c.decimal(name)
	if err != nil || !given {
		return nil, err
	}
	if !in.Holds(value) {
		return nil, cmq.ErrParameterRange(name)
	}
	return &value, nil
}

// integerOr is integer with a default.
func (c *call) integerOr(name string, in cmq.Range, missing int64) (int64, error) {
	value, err := c.integer(name, in)
	if err != nil || value == nil {
		return missing, err
	}
	return *value, nil
}

// decimal gives the value of an optional number of any size: one that does not fit is the largest or smallest.
func (c *call) decimal(name string) (value int64, given bool, err error) {
	text, err := c.find(name)
	if err != nil || text == nil {
		return 0, false, err
	}
	value, ok := parseDecimal(text)
	if !ok {
		return 0, false, cmq.ErrParameterType(name)
	}
	return value, true, nil
}

// parseDecimal accepts digits with or without '-' before them, and nothing else. Numbers that do not fit 64
// bits become the largest or smallest.
func parseDecimal(text []byte) (value int64, ok bool) {
	digits := bytes.TrimPrefix(text, []byte("-"))
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	if len(digits) == 0 {
		return 0, false
	}
	value, _ = strconv.ParseInt(string(text), 10, 64) // on overflow it gives the limit
	return value, true
}

// boolean gives the value of an optional switch, nil if it is not there.
func (c *call) boolean(name string) (*bool, error) {
	text, err := c.find(name)
	if err != nil || text == nil {
		return nil, err
	}
	var on bool
	switch string(text) {
	case "true", "1":
		on = true
	case "false", "0":
	default:
		return nil, cmq.ErrParameterType(name)
	}
	return &on, nil
}

// list gives the values of a required list parameter that makes a batch.
func (c *call) list(name string) ([][]byte, error) {
	values, err := c.entries(name, c.door.config.Limits.BatchEntries)
	switch {
	case err == errTooMany:
		err = cmq.ErrParameterBatch(name)
	case err == nil && len(values) == 0:
		err = cmq.ErrParameterMissing(name)
	}
	return values, err
}

// errTooMany: a list has more entries than it may have.
var errTooMany = errors.New("too many entries")

// entries gives the values of a list parameter in the order of their numbers, which must be consecutive from 0 or 1; none
// if it is not there. The result is valid until the next call. More than most entries are errTooMany.
func (c *call) entries(name string, most int) ([][]byte, error) {
	return c.spelt(spelling{name, '.'}, most)
}

// spelling is how a client writes the names of a list: "name.1", or with another separator.
type spelling struct {
	name      string
	separator byte
}

// spelt is entries for a list in this spelling.
func (c *call) spelt(as spelling, most int) ([][]byte, error) {
	c.numbered = c.numbered[:0]
	for i := range c.params {
		number, ok, err := as.number(c.params[i].Name)
		switch {
		case err != nil:
			return nil, err
		case !ok:
			continue
		case len(c.numbered) == most:
			return nil, errTooMany
		}
		c.numbered = append(c.numbered, numbered{number, c.params[i].Value})
	}
	return c.inOrder(as.name)
}

// numbered is an entry of a list parameter.
type numbered struct {
	number uint64
	value  []byte
}

// inOrder puts c.numbered into a list. Numbers are distinct, because names are and have no leading zeros.
func (c *call) inOrder(name string) ([][]byte, error) {
	n := len(c.numbered)
	base := uint64(1)
	for _, e := range c.numbered {
		base = min(base, e.number)
	}
	c.values = append(c.values[:0], make([][]byte, n)...)
	for _, e := range c.numbered {
		if e.number-base >= uint64(n) {
			return nil, cmq.ErrParameterGap(name)
		}
		c.values[e.number-base] = e.value
	}
	return c.values, nil
}

// number takes "name.12" apart. The bare name, "name.", "name.x" and "name.01" are malformed. A number too large to be
// consecutive with anything is the largest.
func (as spelling) number(given []byte) (number uint64, ok bool, err error) {
	if len(given) < len(as.name) || string(given[:len(as.name)]) != as.name {
		return 0, false, nil
	}
	rest := given[len(as.name):]
	if len(rest) == 0 && as.separator != '.' || len(rest) > 0 && rest[0] != as.separator {
		return 0, false, nil
	}
	if len(rest) < 2 || rest[1] == '0' && len(rest) > 2 {
		return 0, false, cmq.ErrParameterKey(string(given))
	}
	for _, c := range rest[1:] {
		if c < '0' || c > '9' {
			return 0, false, cmq.ErrParameterKey(string(given))
		}
	}
	number, _ = strconv.ParseUint(string(rest[1:]), 10, 64) // on overflow it gives the largest
	return number, true, nil
}
