package meta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// ErrFormat is wrapped by every error about bytes that are not what they should be.
var ErrFormat = errors.New("malformed metadata")

// castagnoli is the polynomial of all checksums of cmq. The table is never written to.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxString bounds every text in a command or an image: names, addresses, keys.
const maxString = 1 << 12

// The appendX functions write one value, the reader's methods of the same name read it back. Numbers are
// unsigned varints, or zig-zag varints where they may be negative; texts are a length and bytes.

func appendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func appendInt(b []byte, v int64) []byte { return binary.AppendVarint(b, v) }

func appendString(b []byte, s string) []byte {
	return append(appendUint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// appendTime writes whole milliseconds.
func appendTime(b []byte, t time.Time) []byte { return appendInt(b, t.UnixMilli()) }

// reader reads values one after the other. After the first error it returns zeros and keeps the error.
type reader struct {
	data []byte
	err  error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s, %d bytes before the end", ErrFormat, what, len(r.data))
	}
	r.data = nil
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.data)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.data = r.data[n:]
	return v
}

// uintTo reads a number that must not be larger than most.
func (r *reader) uintTo(most uint64, what string) uint64 {
	v := r.uint()
	if v > most {
		r.fail(what)
		return 0
	}
	return v
}

// count reads how many things follow, each of which takes at least one byte.
func (r *reader) count(what string) int {
	n := r.uint()
	if n > uint64(len(r.data)) {
		r.fail(what)
		return 0
	}
	return int(n)
}

func (r *reader) byte() byte {
	if len(r.data) == 0 {
		r.fail("byte")
		return 0
	}
	v := r.data[0]
	r.data = r.data[1:]
	return v
}

func (r *reader) bool() bool {
	v := r.byte()
	if v > 1 {
		r.fail("truth value")
	}
	return v == 1
}

func (r *reader) string() string { return r.text(maxString) }

// text reads a text of most bytes at most.
func (r *reader) text(most uint64) string {
	n := r.uintTo(most, "length of a text")
	if n > uint64(len(r.data)) {
		r.fail("text")
		return ""
	}
	s := string(r.data[:n])
	r.data = r.data[n:]
	return s
}

func (r *reader) time() time.Time { return time.UnixMilli(r.int()).UTC() }

// intRange reads a number for a field of type int.
func (r *reader) intRange() int {
	v := r.int()
	if v > math.MaxInt32 || v < math.MinInt32 {
		r.fail("number out of range")
		return 0
	}
	return int(v)
}

func (r *reader) setID() cmq.SetID { return cmq.SetID(r.uintTo(uint64(cmq.MaxSetID), "set id")) }

func (r *reader) nodeID() cmq.NodeID { return cmq.NodeID(r.uint()) }

// end is the error met, or an error if anything is left.
func (r *reader) end() error {
	if r.err == nil && len(r.data) > 0 {
		r.fail("nothing more expected")
	}
	return r.err
}

func appendNode(b []byte, n *cmq.Node) []byte {
	b = appendUint(b, uint64(n.ID))
	b = appendString(b, n.HTTP)
	b = appendString(b, n.TCP)
	b = appendString(b, n.Peer)
	return appendString(b, n.Admin)
}

func (r *reader) node() cmq.Node {
	return cmq.Node{ID: r.nodeID(), HTTP: r.string(), TCP: r.string(), Peer: r.string(), Admin: r.string()}
}

func appendSet(b []byte, s *cmq.Set) []byte {
	b = appendUint(b, uint64(s.ID))
	b = appendUint(b, uint64(len(s.Replicas)))
	for _, id := range s.Replicas {
		b = appendUint(b, uint64(id))
	}
	return b
}

func (r *reader) set() cmq.Set {
	s := cmq.Set{ID: r.setID()}
	for n := r.count("number of replicas"); n > 0; n-- {
		s.Replicas = append(s.Replicas, r.nodeID())
	}
	return s
}

func appendKey(b []byte, k *cmq.AccessKey) []byte {
	b = appendString(b, k.ID)
	b = appendString(b, k.Secret)
	b = appendString(b, k.Owner)
	return appendBool(b, k.Enabled)
}

func (r *reader) key() cmq.AccessKey {
	return cmq.AccessKey{ID: r.string(), Secret: r.string(), Owner: r.string(), Enabled: r.bool()}
}

func appendAttributes(b []byte, a *cmq.QueueAttributes) []byte {
	b = appendInt(b, a.MaxMsgHeapNum)
	b = appendInt(b, int64(a.PollingWait))
	b = appendInt(b, int64(a.VisibilityTimeout))
	b = appendInt(b, int64(a.MaxMsgSize))
	b = appendInt(b, int64(a.MsgRetention))
	b = appendInt(b, int64(a.Rewind))
	b = appendUint(b, uint64(a.DeadLetter.Queue))
	b = appendInt(b, int64(a.DeadLetter.Policy))
	b = appendInt(b, int64(a.DeadLetter.MaxReceiveCount))
	b = appendInt(b, int64(a.DeadLetter.MaxTimeToLive))
	b = appendBool(b, a.Transaction.On)
	b = appendInt(b, int64(a.Transaction.FirstQueryInterval))
	b = appendInt(b, int64(a.Transaction.MaxQueryCount))
	b = appendBool(b, a.Trace)
	return appendInt(b, int64(a.MaxInFlight))
}

func (r *reader) attributes() cmq.QueueAttributes {
	return cmq.QueueAttributes{
		MaxMsgHeapNum:     r.int(),
		PollingWait:       time.Duration(r.int()),
		VisibilityTimeout: time.Duration(r.int()),
		MaxMsgSize:        r.intRange(),
		MsgRetention:      time.Duration(r.int()),
		Rewind:            time.Duration(r.int()),
		DeadLetter: cmq.DeadLetterPolicy{
			Queue:           cmq.QueueID(r.uint()),
			Policy:          r.intRange(),
			MaxReceiveCount: r.intRange(),
			MaxTimeToLive:   time.Duration(r.int()),
		},
		Transaction: cmq.TransactionPolicy{
			On: r.bool(), FirstQueryInterval: time.Duration(r.int()), MaxQueryCount: r.intRange(),
		},
		Trace:       r.bool(),
		MaxInFlight: r.intRange(),
	}
}

func appendQueue(b []byte, q *cmq.Queue) []byte {
	b = appendUint(b, uint64(q.ID))
	b = appendString(b, q.Name)
	b = appendString(b, q.Owner)
	b = appendAttributes(b, &q.Attributes)
	b = appendUint(b, q.Version)
	b = appendTime(b, q.Created)
	b = appendTime(b, q.Modified)
	b = appendUint(b, uint64(len(q.Shards)))
	for _, s := range q.Shards {
		b = appendUint(b, uint64(s.ID))
		b = appendUint(b, uint64(s.Set))
		b = appendUint(b, s.Epoch)
	}
	return b
}

func (r *reader) queue() *cmq.Queue {
	q := &cmq.Queue{
		ID:         cmq.QueueID(r.uint()),
		Name:       r.string(),
		Owner:      r.string(),
		Attributes: r.attributes(),
		Version:    r.uint(),
		Created:    r.time(),
		Modified:   r.time(),
	}
	for n := r.count("number of shards"); n > 0; n-- {
		q.Shards = append(q.Shards, cmq.Shard{ID: cmq.ShardID(r.uint()), Set: r.setID(), Epoch: r.uint()})
	}
	return q
}

// queueVersion is the version of a queue's encoding outside of images.
const queueVersion = 3

// EncodeQueue gives the bytes of one queue, for answers to other nodes: a version (1 byte) and the fields.
func EncodeQueue(q *cmq.Queue) []byte { return appendQueue([]byte{queueVersion}, q) }

// DecodeQueue reads what EncodeQueue wrote. Errors wrap ErrFormat.
func DecodeQueue(data []byte) (*cmq.Queue, error) {
	r := &reader{data: data}
	if v := r.byte(); v != queueVersion && r.err == nil {
		return nil, fmt.Errorf("%w: queue of version %d, this program knows %d", ErrFormat, v, queueVersion)
	}
	q := r.queue()
	if err := r.end(); err != nil {
		return nil, err
	}
	return q, nil
}
