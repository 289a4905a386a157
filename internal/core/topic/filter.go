package topic

import (
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
)

// Filter is what one subscription asks for, ready for use. It is never changed.
type Filter struct {
	by   cmq.FilterType
	tags []string
	keys []binding
}

// NewFilter makes the filter of a subscription.
func NewFilter(s *cmq.Subscriber) *Filter {
	f := &Filter{by: s.Filter, tags: slices.Clone(s.Tags)}
	if f.by == cmq.FilterKeys {
		for _, key := range s.Keys {
			f.keys = append(f.keys, bind(key))
		}
	}
	return f
}

// Match reports whether the message is for the subscription.
//
// With FilterKeys one of the binding keys must match; a subscription without any gets nothing. Otherwise tags decide:
// a subscription without tags gets every message, whatever binding keys it has; one with tags gets those messages that
// have one of them.
func (f *Filter) Match(p *cmq.Publication) bool {
	if f.by == cmq.FilterKeys {
		return slices.ContainsFunc(f.keys, func(b binding) bool { return b.match(p.RoutingKey) })
	}
	return len(f.tags) == 0 || slices.ContainsFunc(f.tags, func(tag string) bool { return slices.Contains(p.Tags, tag) })
}
