package command

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

func TestProperties(t *testing.T) {
	for name, p := range map[string]Properties{
		"none":                       {},
		"an id":                      {ID: 1 << 63},
		"tags and a routing key":     {Publication: &cmq.Publication{Tags: []string{"a", "订单", ""}, RoutingKey: "x.y"}},
		"published without anything": {Publication: &cmq.Publication{}},
		"an id and tags":             {ID: 1<<64 - 2, Publication: &cmq.Publication{Tags: []string{"a"}}},
		"a source":                   {Source: &cmq.Source{Queue: 1 << 56, Enqueued: time.UnixMilli(1 << 41), DequeueCount: 1<<32 - 1}},
		"everything":                 {ID: 1, Source: &cmq.Source{Queue: 2, Enqueued: time.UnixMilli(0)}, Publication: &cmq.Publication{RoutingKey: "k"}},
	} {
		for _, body := range []string{"body", ""} {
			origin, head := p.seal()
			got, rest := Unseal(origin, append(bytes.Clone(head), body...))
			if !reflect.DeepEqual(got, p) || string(rest) != body {
				t.Errorf("%s: %+v, body %q", name, got, rest)
			}
			if plain := p.Source == nil && p.Publication == nil; plain != (len(head) == 0) || plain != (origin != described) {
				t.Errorf("%s: origin %d, %d bytes in front", name, origin, len(head))
			}
		}
	}
}

func TestBrokenPropertiesAreBody(t *testing.T) {
	p := Properties{ID: 7, Source: &cmq.Source{Queue: 3}, Publication: &cmq.Publication{Tags: []string{"tag"}, RoutingKey: "key"}}
	_, head := p.seal()
	for n := range head {
		if got, body := Unseal(described, head[:n]); !reflect.DeepEqual(got, Properties{}) || !bytes.Equal(body, head[:n]) {
			t.Errorf("the first %d bytes: %+v, body %q", n, got, body)
		}
	}
}

// TestBodyOfPropertiesIsClipped: the body is part of the entry's bytes, which others read too.
func TestBodyOfPropertiesIsClipped(t *testing.T) {
	p := Properties{Publication: &cmq.Publication{}}
	_, head := p.seal()
	stored := append(append(head, "body"...), "next"...)
	_, body := Unseal(described, stored[:len(stored)-4])
	_ = append(body, "XXXX"...)
	if string(stored[len(stored)-4:]) != "next" {
		t.Errorf("%q", stored)
	}
}

func FuzzUnseal(f *testing.F) {
	p := Properties{ID: 7, Source: &cmq.Source{Queue: 3}, Publication: &cmq.Publication{Tags: []string{"tag"}, RoutingKey: "key"}}
	_, head := p.seal()
	f.Add(append(head, "body"...))
	f.Add([]byte{255, 1, 2, 3})
	f.Fuzz(func(t *testing.T, stored []byte) {
		p, body := Unseal(described, stored)
		if !bytes.HasSuffix(stored, body) {
			t.Errorf("%+v: body %q is not the end of what is stored", p, body)
		}
	})
}
