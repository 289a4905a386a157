package main

import (
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/client"
)

// subscriptionFlags are the flags of create and set.
type subscriptionFlags struct {
	to                 map[string]*string // protocol → endpoint; of create only
	tags, keys         []string
	strategy, format   string
	secret, deadLetter string
	caFile, agent      string
	rate, concurrency  int
	ordered, paused    bool
}

// Values of --strategy and --format.
var (
	strategies = map[string]string{"backoff": client.BackoffRetry, "exponential": client.ExponentialRetry}
	formats    = map[string]string{"json": client.FormatJSON, "simplified": client.FormatSimplified, "cloudevents": client.FormatCloudEvents}
)

func (s *subscriptionFlags) addTarget(cmd *cobra.Command) {
	s.to = make(map[string]*string)
	for protocol, usage := range map[string]string{
		client.ToQueue:    "queue of the same account that gets the messages",
		client.ToHTTP:     "URL that gets the messages, http:// or https://",
		client.ToFunction: "URL of a function that is called with the messages",
	} {
		s.to[protocol] = cmd.Flags().String(protocol, "", usage)
	}
}

// target gives where the subscription delivers: exactly one of the flags must be there.
func (s *subscriptionFlags) target() (protocol, endpoint string, err error) {
	for _, p := range slices.Sorted(maps.Keys(s.to)) {
		switch to := *s.to[p]; {
		case to == "":
		case endpoint != "":
			return "", "", usagef("--%s and --%s exclude each other", protocol, p)
		default:
			protocol, endpoint = p, to
		}
	}
	if endpoint == "" {
		return "", "", usagef("say where the messages go: --queue QUEUE, --http URL or --function URL")
	}
	return protocol, endpoint, nil
}

func (s *subscriptionFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&s.tags, "tag", nil, "messages with this tag, of a topic that filters by tags; repeat it for up to 5")
	f.StringArrayVar(&s.keys, "key", nil, "messages whose routing key matches this one, of a topic that filters by keys: words with dots between, * is one word, # any number; repeat it for up to 5")
	f.StringVar(&s.strategy, "strategy", "exponential", "when a failed delivery is tried again: backoff (3 times, 19s to 29s apart) or exponential (1s, 2s, 4s … 512s apart, for a day)")
	f.StringVar(&s.format, "format", "json", "what a URL gets: json, simplified (the body as it is) or cloudevents; a queue gets the body as it is")
	f.StringVar(&s.secret, "push-secret", "", "16 to 256 bytes that sign each delivery; empty takes it away")
	f.IntVar(&s.rate, "rate", 0, "deliveries a second at most; 0 is any number")
	f.IntVar(&s.concurrency, "concurrency", 0, "deliveries at once at most; 0 is the server's own bound")
	f.BoolVar(&s.ordered, "ordered", false, "one delivery at a time, in order of publishing; one that fails holds up the rest")
	f.BoolVar(&s.paused, "paused", false, "deliver nothing until it is resumed")
	f.StringVar(&s.deadLetter, "dead-letter", "", "queue for messages that exhausted their retries; empty drops them")
	f.StringVar(&s.agent, "agent", "", "name of the agent (see: cmq agent) that delivers to a URL in its own network; empty: the cluster delivers")
	f.StringVar(&s.caFile, "ca-file", "", "file with PEM certificates that alone are trusted for an https URL; empty takes them away")
}

// settings gives the values of those flags that were set.
func (s *subscriptionFlags) settings(cmd *cobra.Command) (out client.Subscription, err error) {
	set := cmd.Flags().Changed
	out.FilterTags, out.BindingKeys = s.tags, s.keys
	if set("strategy") {
		if out.NotifyStrategy, err = oneOf("strategy", s.strategy, strategies); err != nil {
			return out, err
		}
	}
	if set("format") {
		if out.NotifyContentFormat, err = oneOf("format", s.format, formats); err != nil {
			return out, err
		}
	}
	p := &out.Push
	given(set("push-secret"), &p.Secret, &s.secret)
	given(set("rate"), &p.Rate, &s.rate)
	given(set("concurrency"), &p.Concurrency, &s.concurrency)
	given(set("ordered"), &p.Ordered, &s.ordered)
	given(set("paused"), &p.Paused, &s.paused)
	given(set("dead-letter"), &p.DeadLetter, &s.deadLetter)
	given(set("agent"), &p.Agent, &s.agent)
	if set("ca-file") {
		p.CA, err = readCA(s.caFile)
	}
	return out, err
}

func given[T any](set bool, to **T, value *T) {
	if set {
		*to = value
	}
}

// oneOf gives the protocol's word for a flag's.
func oneOf(flag, value string, words map[string]string) (string, error) {
	if word, ok := words[value]; ok {
		return word, nil
	}
	return "", usagef("--%s %q is none of: %s", flag, value, strings.Join(slices.Sorted(maps.Keys(words)), ", "))
}

// maxCA bounds what is read of a file; the server takes less.
const maxCA = 1 << 20

// readCA gives the text of the file; no file is no text.
func readCA(name string) (*string, error) {
	if name == "" {
		return new(string), nil
	}
	info, err := os.Stat(name)
	if err == nil && info.Size() > maxCA {
		return nil, usagef("--ca-file: %s has %d bytes, certificates have less", name, info.Size())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, usagef("--ca-file: %v", err)
	}
	text := string(data)
	return &text, nil
}
