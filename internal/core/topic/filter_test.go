package topic

import (
	"strings"
	"testing"

	"github.com/opencmq/cmq/internal/cmq"
)

func TestTags(t *testing.T) {
	type row struct {
		subscription, message string // tags, separated by blanks
		want                  bool
	}
	for name, r := range map[string]row{
		"a subscription without tags gets what has none":       {"", "", true},
		"a subscription without tags gets what has some":       {"", "a b", true},
		"a subscription with tags does not get what has none":  {"a", "", false},
		"one tag that is the same is enough":                   {"a b", "b c", true},
		"all tags the same":                                    {"a b", "a b", true},
		"no tag the same":                                      {"a b", "c d", false},
		"a tag is not a part of another":                       {"ab", "a", false},
		"tags are compared with case":                          {"a", "A", false},
		"tags are no patterns":                                 {"#", "a", false},
		"the last of five meets the last of five":              {"a b c d x", "e f g h x", true},
		"a tag beyond ASCII":                                   {"订单", "订单 x", true},
		"a tag that says * is compared like any other":         {"*", "* b", true},
		"a subscription with tags that are all unlike the one": {"a b c d e", "f", false},
	} {
		f := NewFilter(&cmq.Subscriber{Filter: cmq.FilterTags, Tags: strings.Fields(r.subscription)})
		if got := f.Match(&cmq.Publication{Tags: strings.Fields(r.message)}); got != r.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestFilterLooksAtItsOwnKindOnly has the odd cases: what belongs to the other filter type has no effect.
func TestFilterLooksAtItsOwnKindOnly(t *testing.T) {
	type row struct {
		subscriber cmq.Subscriber
		message    cmq.Publication
		want       bool
	}
	for name, r := range map[string]row{
		"by tags, with a binding key only: it receives everything": {
			cmq.Subscriber{Filter: cmq.FilterTags, Keys: []string{"a.b"}}, cmq.Publication{RoutingKey: "x"}, true},
		"by tags, a routing key is ignored": {
			cmq.Subscriber{Filter: cmq.FilterTags, Tags: []string{"t"}}, cmq.Publication{RoutingKey: "t"}, false},
		"by tags, a binding key does not help what has no tag": {
			cmq.Subscriber{Filter: cmq.FilterTags, Tags: []string{"t"}, Keys: []string{"#"}}, cmq.Publication{RoutingKey: "x"}, false},
		"by keys, filter tags have no effect": {
			cmq.Subscriber{Filter: cmq.FilterKeys, Tags: []string{"t"}, Keys: []string{"a"}}, cmq.Publication{RoutingKey: "a"}, true},
		"by keys, tags of a message do not make it match": {
			cmq.Subscriber{Filter: cmq.FilterKeys, Tags: []string{"t"}, Keys: []string{"a"}}, cmq.Publication{Tags: []string{"t"}, RoutingKey: "b"}, false},
		"by keys, without any: it receives nothing": {
			cmq.Subscriber{Filter: cmq.FilterKeys}, cmq.Publication{RoutingKey: "a"}, false},
		"by keys, the last of five matches": {
			cmq.Subscriber{Filter: cmq.FilterKeys, Keys: []string{"a", "b", "c", "d", "x.#"}}, cmq.Publication{RoutingKey: "x.y"}, true},
		"by keys, none of five matches": {
			cmq.Subscriber{Filter: cmq.FilterKeys, Keys: []string{"a", "b", "c", "d", "x.#"}}, cmq.Publication{RoutingKey: "y.x"}, false},
	} {
		if got := NewFilter(&r.subscriber).Match(&r.message); got != r.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestFilterKeepsNothingOfTheCaller(t *testing.T) {
	s := cmq.Subscriber{Filter: cmq.FilterTags, Tags: []string{"a"}}
	f := NewFilter(&s)
	s.Tags[0] = "b"
	if !f.Match(&cmq.Publication{Tags: []string{"a"}}) {
		t.Error("the filter changed with the caller's slice")
	}
}
