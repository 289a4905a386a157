package httpapi

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// A dead-letter policy travels as a string that holds a JSON object:
//
//	{"deadLetterQueue":"dlq","policy":0,"maxReceiveCount":3}
//	{"deadLetterQueue":"dlq","policy":1,"maxTimeToLive":600}

// parseDeadLetterPolicy reads a policy. Members it does not know, and the count or time the policy does not
// use, are ignored. Errors, in the order of the checks:
//
//	10710  not a JSON object
//	10720  a member twice
//	10760  deadLetterQueue is missing, no string or empty
//	10730  deadLetterQueue can be no queue's name
//	10770  policy is missing or neither 0 nor 1
//	10720  the number that belongs to the policy is missing, no whole number or out of range
func parseDeadLetterPolicy(text []byte, limits *cmq.Limits) (*cmq.DeadLetterSettings, error) {
	members, err := objectMembers(text)
	if err != nil {
		return nil, err
	}
	d := new(cmq.DeadLetterSettings)
	if json.Unmarshal(members["deadLetterQueue"], &d.Queue) != nil || d.Queue == "" {
		return nil, cmq.ErrDeadLetterQueue
	}
	if !cmq.ValidName(d.Queue) {
		return nil, cmq.ErrDeadLetterNotExist
	}
	policy, ok := parseDecimal(members["policy"])
	if !ok || policy != cmq.PolicyReceives && policy != cmq.PolicyAge {
		return nil, cmq.ErrDeadLetterPolicy
	}
	d.Policy = int(policy)
	number, in, to := "maxReceiveCount", limits.MaxReceiveCount, &d.MaxReceiveCount
	if d.Policy == cmq.PolicyAge {
		number, in, to = "maxTimeToLive", limits.MaxTimeToLive, &d.MaxTimeToLive
	}
	if *to, ok = parseDecimal(members[number]); !ok || !in.Holds(*to) {
		return nil, cmq.ErrDeadLetterParams
	}
	return d, nil
}

// objectMembers takes a JSON object apart. Names are compared exactly, unlike encoding/json does for structs.
func objectMembers(text []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if opening, err := decoder.Token(); err != nil || opening != json.Delim('{') {
		return nil, cmq.ErrDeadLetterJSON
	}
	members := make(map[string]json.RawMessage)
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, cmq.ErrDeadLetterJSON
		}
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			return nil, cmq.ErrDeadLetterJSON
		}
		if _, twice := members[name.(string)]; twice {
			return nil, cmq.ErrDeadLetterParams
		}
		members[name.(string)] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, cmq.ErrDeadLetterJSON
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, cmq.ErrDeadLetterJSON
	}
	return members, nil
}

// appendDeadLetterPolicy writes the policy of a queue with all four members; the one that is not used is 0.
func appendDeadLetterPolicy(to []byte, q *cmq.Queue) []byte {
	p := &q.Attributes.DeadLetter
	name := q.DeadLetterName
	if name == "" {
		name = p.Queue.String()
	}
	to = appendString(append(to, `{"deadLetterQueue":`...), name)
	to = strconv.AppendInt(append(to, `,"policy":`...), int64(p.Policy), 10)
	to = strconv.AppendInt(append(to, `,"maxReceiveCount":`...), int64(p.MaxReceiveCount), 10)
	to = strconv.AppendInt(append(to, `,"maxTimeToLive":`...), int64(p.MaxTimeToLive/time.Second), 10)
	return append(to, '}')
}
