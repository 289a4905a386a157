package command

import (
	"encoding/binary"

	"github.com/opencmq/cmq/internal/cmq"
)

// AppendSubscriber writes what makes a shard that of a subscription; nil: it is a queue's.
func AppendSubscriber(b []byte, s *cmq.Subscriber) []byte {
	if b = AppendBool(b, s != nil); s == nil {
		return b
	}
	b = binary.AppendUvarint(b, uint64(s.Topic))
	b = AppendInt(b, int64(s.Filter))
	b = appendTexts(appendTexts(b, s.Tags), s.Keys)
	return AppendBool(b, s.Forward)
}

// ReadSubscriber reads what AppendSubscriber wrote.
func ReadSubscriber(r *Reader) *cmq.Subscriber {
	if !r.Bool() {
		return nil
	}
	return &cmq.Subscriber{
		Topic: cmq.ShardID(r.Uvarint()), Filter: cmq.FilterType(r.Int()), Tags: readTexts(r), Keys: readTexts(r), Forward: r.Bool(),
	}
}

func appendPublication(b []byte, p *cmq.Publication) []byte {
	return AppendText(appendTexts(b, p.Tags), p.RoutingKey)
}

// publicationSize is at least what a publication takes; nil: nothing.
func publicationSize(p *cmq.Publication) int {
	if p == nil {
		return 0
	}
	return textBytes(p.Tags) + len(p.RoutingKey) + 2*binary.MaxVarintLen64
}

func readPublication(r *Reader) cmq.Publication {
	return cmq.Publication{Tags: readTexts(r), RoutingKey: r.Text()}
}

func appendTexts(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, text := range list {
		b = AppendText(b, text)
	}
	return b
}

func readTexts(r *Reader) (list []string) {
	for n := r.Count(1); n > 0; n-- {
		list = append(list, r.Text())
	}
	return list
}

// textBytes is at least what texts take.
func textBytes(lists ...[]string) (n int) {
	for _, list := range lists {
		for _, text := range list {
			n += len(text) + binary.MaxVarintLen64
		}
	}
	return n
}
