package broker

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/core/queue"
	"github.com/tidwall/btree"
)

// The image of the whole state. Numbers have the variable-length form of encoding/binary; ids are written
// as the distance to the one before:
//
//	magic "cmqi", version 5, set, index, time, sum (8 bytes, little endian)
//	n, n × id                                      dropped shards
//	n, n × shard                                   shards
//
//	shard  id, version, subscriber (as in an operation), n, n × (from, next), and what queue writes of it
//
// The file that holds it has a checksum of its own. Replicas that applied the same batches write the same
// bytes, so the digest of the state is the SHA-256 of the image.
const (
	imageMagic   = "cmqi"
	imageVersion = 5
)

var errImage = errors.New("image of a set is damaged")

// Encode writes the whole state.
func (b *Broker) Encode() []byte {
	var image []byte
	b.write(func(part []byte) { image = append(image, part...) })
	return image
}

// Digest is a fingerprint of the whole state: equal on all replicas that applied the same batches.
func (b *Broker) Digest() [32]byte {
	h := sha256.New()
	b.write(func(part []byte) { h.Write(part) })
	return [32]byte(h.Sum(nil))
}

// write gives the image piece by piece; a piece is good only until emit returns.
func (b *Broker) write(emit func([]byte)) {
	h := b.head()
	emit(h.append(nil))
	var buf []byte
	last := cmq.ShardID(0)
	b.order.Scan(func(id cmq.ShardID) bool {
		buf = b.shards[id].appendImage(binary.AppendUvarint(buf[:0], uint64(id-last)))
		last = id
		emit(buf)
		return true
	})
}

// head is what an image says before its first shard.
type head struct {
	set     cmq.SetID
	index   uint64
	time    int64
	sum     uint64
	dropped *btree.Set[cmq.ShardID]
	shards  int
}

func (b *Broker) head() head {
	return head{b.set, b.index, b.time, b.sum, &b.dropped, b.order.Len()}
}

func (h *head) append(buf []byte) []byte {
	buf = append(buf, imageMagic...)
	buf = binary.AppendUvarint(buf, imageVersion)
	buf = binary.AppendUvarint(buf, uint64(h.set))
	buf = binary.AppendUvarint(buf, h.index)
	buf = command.AppendInt(buf, h.time)
	buf = binary.LittleEndian.AppendUint64(buf, h.sum)
	buf = appendIDs(buf, h.dropped)
	return binary.AppendUvarint(buf, uint64(h.shards))
}

// appendImage appends what an image says of the shard, without its id.
func (s *shard) appendImage(buf []byte) []byte { return s.AppendImage(s.appendRest(buf)) }

// appendRest appends the part that is not queue's.
func (s *shard) appendRest(buf []byte) []byte {
	buf = binary.AppendUvarint(buf, s.version)
	buf = command.AppendSubscriber(buf, s.subscriber())
	buf = binary.AppendUvarint(buf, uint64(len(s.from())))
	for _, a := range s.from() {
		buf = binary.AppendUvarint(buf, uint64(a.from))
		buf = binary.AppendUvarint(buf, a.next)
	}
	return buf
}

func appendIDs(buf []byte, ids *btree.Set[cmq.ShardID]) []byte {
	buf = binary.AppendUvarint(buf, uint64(ids.Len()))
	last := cmq.ShardID(0)
	ids.Scan(func(id cmq.ShardID) bool {
		buf = binary.AppendUvarint(buf, uint64(id-last))
		last = id
		return true
	})
	return buf
}

// Decode restores the state of the set from an image. The error says what is wrong with the image.
func Decode(set cmq.SetID, image []byte, o Options) (*Broker, error) {
	b := New(set, o)
	h, err := walk(set, [][]byte{image}, func(id cmq.ShardID, s *shard) error {
		if s.Dead() > 0 {
			b.dead.Insert(id)
		}
		b.held += s.HeldCount()
		b.insert(id, s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.index, b.time, b.sum, b.dropped = h.index, h.time, h.sum, *h.dropped
	return b, nil
}

// WalkImage visits the shards of an image of the set in the order of their ids, holding one in memory at a time,
// until f returns an error, which it returns. The image may be in several parts if they were cut as by
// Snapshot.Parts. Shards must not be changed.
func WalkImage(set cmq.SetID, parts [][]byte, f func(cmq.ShardID, *queue.Shard) error) error {
	_, err := walk(set, parts, func(id cmq.ShardID, s *shard) error { return f(id, &s.Shard) })
	return err
}

func walk(set cmq.SetID, parts [][]byte, f func(cmq.ShardID, *shard) error) (head, error) {
	if len(parts) == 0 || len(parts[0]) < len(imageMagic) || string(parts[0][:len(imageMagic)]) != imageMagic {
		return head{}, fmt.Errorf("%w: it does not begin with %q", errImage, imageMagic)
	}
	r := command.NewReader(parts[0][len(imageMagic):])
	parts = parts[1:]
	h, err := readHead(&r, set)
	if err != nil {
		return h, err
	}
	last := cmq.ShardID(0)
	for i := 0; i < h.shards && !r.Bad(); i++ {
		if r.Len() == 0 && len(parts) > 0 {
			r, parts = command.NewReader(parts[0]), parts[1:]
		}
		last = readID(&r, last, i)
		s, err := readShard(&r, last, &h)
		if err == nil {
			err = f(last, s)
		}
		if err != nil {
			return h, err
		}
	}
	if r.Bad() || r.Len() > 0 || len(parts) > 0 {
		return h, errImage
	}
	return h, nil
}

func readHead(r *command.Reader, set cmq.SetID) (head, error) {
	h := head{set: set, dropped: new(btree.Set[cmq.ShardID])}
	if v := r.Uvarint(); v != imageVersion {
		return h, fmt.Errorf("%w: version %d is not known", errImage, v)
	}
	if from := cmq.SetID(r.Uvarint()); from != set {
		return h, fmt.Errorf("%w: it is of set %d, not %d", errImage, from, set)
	}
	h.index, h.time, h.sum = r.Uvarint(), r.Int(), r.Fixed64()
	last := cmq.ShardID(0)
	for n, i := r.Count(1), 0; i < n; i++ {
		last = readID(r, last, i)
		h.dropped.Insert(last)
	}
	// Shards may be in other parts, so their number cannot be checked against what follows here.
	h.shards = int(min(r.Uvarint(), 1<<40))
	if r.Bad() || h.time < 0 {
		return h, errImage
	}
	return h, nil
}

// readID reads the i-th id of an ascending list.
func readID(r *command.Reader, last cmq.ShardID, i int) cmq.ShardID {
	id := last + cmq.ShardID(r.Uvarint())
	if i > 0 && id <= last {
		r.Fail()
	}
	return id
}

func readShard(r *command.Reader, id cmq.ShardID, h *head) (*shard, error) {
	s := &shard{version: r.Uvarint(), sub: newSubscriber(command.ReadSubscriber(r))}
	var list []arrival
	for n := r.Count(2); n > 0; n-- {
		a := arrival{from: cmq.ShardID(r.Uvarint()), next: r.Uvarint()}
		if k := len(list); k > 0 && list[k-1].from >= a.from {
			r.Fail()
		}
		list = append(list, a)
	}
	if len(list) > 0 {
		s.arrivals = &list
	}
	q, err := queue.ReadImage(r, id.Ordinal(), h.time)
	if err == nil && h.dropped.Contains(id) {
		err = errors.New("it is both there and dropped")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: shard %d: %w", errImage, id, err)
	}
	s.Shard = q
	return s, nil
}
