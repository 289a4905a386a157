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
//	magic "cmqi", version 1, set, index, time
//	n, n × id                                      dropped shards
//	n, n × (id, version, n × (from, next), shard)  shards; the last part is queue's
//
// The file that holds it has a checksum of its own. Replicas that applied the same batches write the same
// bytes, so the digest of the state is the SHA-256 of the image.
const (
	imageMagic   = "cmqi"
	imageVersion = 1
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
	buf := append([]byte(nil), imageMagic...)
	buf = binary.AppendUvarint(buf, imageVersion)
	buf = binary.AppendUvarint(buf, uint64(b.set))
	buf = binary.AppendUvarint(buf, b.index)
	buf = command.AppendInt(buf, b.time)
	buf = appendIDs(buf, &b.dropped)
	buf = binary.AppendUvarint(buf, uint64(b.order.Len()))
	emit(buf)
	last := cmq.ShardID(0)
	b.order.Scan(func(id cmq.ShardID) bool {
		buf = binary.AppendUvarint(buf[:0], uint64(id-last))
		last = id
		s := b.shards[id]
		buf = binary.AppendUvarint(buf, s.version)
		buf = binary.AppendUvarint(buf, uint64(len(s.arrivals)))
		for _, a := range s.arrivals {
			buf = binary.AppendUvarint(buf, uint64(a.from))
			buf = binary.AppendUvarint(buf, a.next)
		}
		buf = s.AppendImage(buf)
		emit(buf)
		return true
	})
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
	if len(image) < len(imageMagic) || string(image[:len(imageMagic)]) != imageMagic {
		return nil, fmt.Errorf("%w: it does not begin with %q", errImage, imageMagic)
	}
	r := command.NewReader(image[len(imageMagic):])
	if v := r.Uvarint(); v != imageVersion {
		return nil, fmt.Errorf("%w: version %d is not known", errImage, v)
	}
	if from := cmq.SetID(r.Uvarint()); from != set {
		return nil, fmt.Errorf("%w: it is of set %d, not %d", errImage, from, set)
	}
	b := New(set, o)
	b.index, b.time = r.Uvarint(), r.Int()
	last := cmq.ShardID(0)
	for n, i := r.Count(1), 0; i < n; i++ {
		last = readID(&r, last, i)
		b.dropped.Insert(last)
	}
	last = 0
	for n, i := r.Count(8), 0; i < n && !r.Bad(); i++ {
		last = readID(&r, last, i)
		if err := b.readShard(&r, last); err != nil {
			return nil, fmt.Errorf("%w: shard %d: %w", errImage, last, err)
		}
	}
	if r.Bad() || r.Len() > 0 || b.time < 0 {
		return nil, errImage
	}
	return b, nil
}

// readID reads the i-th id of an ascending list.
func readID(r *command.Reader, last cmq.ShardID, i int) cmq.ShardID {
	id := last + cmq.ShardID(r.Uvarint())
	if i > 0 && id <= last {
		r.Fail()
	}
	return id
}

func (b *Broker) readShard(r *command.Reader, id cmq.ShardID) error {
	s := &shard{version: r.Uvarint()}
	for n := r.Count(2); n > 0; n-- {
		a := arrival{from: cmq.ShardID(r.Uvarint()), next: r.Uvarint()}
		if k := len(s.arrivals); k > 0 && s.arrivals[k-1].from >= a.from {
			r.Fail()
		}
		s.arrivals = append(s.arrivals, a)
	}
	q, err := queue.ReadImage(r, id.Ordinal(), b.time)
	if err != nil {
		return err
	}
	if b.dropped.Contains(id) {
		return errors.New("it is both there and dropped")
	}
	s.Shard = q
	b.shards[id] = s
	b.order.Insert(id)
	if s.Dead() > 0 {
		b.dead.Insert(id)
	}
	return nil
}
