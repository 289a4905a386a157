package main

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/client"
)

func (a *app) subscriptionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "subscription", Short: "say where the messages of a topic go",
		Long: "A subscription brings every message of its topic that its filter matches to a queue or an endpoint.\n" +
			"Without --tag it gets all messages of a topic that filters by tags.",
	}
	cmd.AddCommand(a.subscriptionCreate(), a.subscriptionList(), a.subscriptionShow(), a.subscriptionSet(), a.subscriptionDelete(),
		a.subscriptionPause("pause", "stop delivering; messages wait until the topic's retention ends", "paused", true),
		a.subscriptionPause("resume", "deliver again after a pause", "resumed", false), a.subscriptionClearTags(), a.subscriptionTest())
	a.targetFlags(cmd.Commands()...)
	return parent(cmd)
}

func (a *app) subscriptionCreate() *cobra.Command {
	var f subscriptionFlags
	cmd := &cobra.Command{
		Use: "create TOPIC NAME --queue QUEUE", Short: "make a subscription", Args: exactly("TOPIC", "NAME"),
		Long: "Subscribes one of these to a topic: a queue (--queue), a URL (--http), a function (--function).\n" +
			"A URL in a network that the cluster does not reach is served by an agent in there: --agent NAME, see: cmq agent",
	}
	f.add(cmd)
	f.addTarget(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := f.settings(cmd)
		if err != nil {
			return err
		}
		if s.Protocol, s.Endpoint, err = f.target(); err != nil {
			return err
		}
		if s.Push.Agent != nil && *s.Push.Agent != "" && s.Protocol == client.ToQueue {
			return usagef("--agent goes with --http and --function; queues are the cluster's own")
		}
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			id, err := c.Topic(args[0]).Subscribe(ctx, args[1], s)
			if err != nil {
				return err
			}
			return a.show(client.SubscriptionInfo{ID: id, Name: args[1], Protocol: s.Protocol, Endpoint: s.Endpoint}, nil,
				[][]string{{"created", args[1], id}})
		})
	}
	return cmd
}

func (a *app) subscriptionSet() *cobra.Command {
	var f subscriptionFlags
	cmd := &cobra.Command{
		Use: "set TOPIC NAME", Short: "change a subscription; flags that are not given change nothing", Args: exactly("TOPIC", "NAME"),
		Long: "Changes what flags are given for. Tags or keys that are given replace the old ones. Where it delivers cannot be changed.",
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := f.settings(cmd)
		if err != nil {
			return err
		}
		if reflect.DeepEqual(s, client.Subscription{}) {
			return usagef("nothing to change; see: %s --help", cmd.CommandPath())
		}
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			t := c.Topic(args[0])
			if err := t.SetSubscription(ctx, args[1], s); err != nil {
				return err
			}
			return a.showSubscription(ctx, t, args[1])
		})
	}
	return cmd
}

func (a *app) subscriptionList() *cobra.Command {
	var search string
	cmd := &cobra.Command{Use: "list TOPIC", Short: "list the subscriptions of a topic", Args: exactly("TOPIC")}
	cmd.Flags().StringVar(&search, "search", "", "only names that contain this")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			all, rows := []client.SubscriptionInfo{}, [][]string{}
			for {
				page, err := c.Topic(args[0]).Subscriptions(ctx, client.ListOptions{Search: search, Offset: len(all), Limit: 100})
				if err != nil {
					return err
				}
				all = append(all, page.Subscriptions...)
				if len(page.Subscriptions) == 0 || len(all) >= page.Total {
					break
				}
			}
			for _, s := range all {
				rows = append(rows, []string{s.Name, s.Protocol, s.Endpoint, s.ID})
			}
			return a.show(all, []string{"name", "protocol", "endpoint", "id"}, rows)
		})
	}
	return cmd
}

func (a *app) subscriptionShow() *cobra.Command {
	return &cobra.Command{
		Use: "show TOPIC NAME", Short: "show settings and counters of a subscription", Args: exactly("TOPIC", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				return a.showSubscription(ctx, c.Topic(args[0]), args[1])
			})
		},
	}
}

// subscriptionView is the JSON form.
type subscriptionView struct {
	Topic       string    `json:"topic"`
	Name        string    `json:"name"`
	Protocol    string    `json:"protocol"`
	Endpoint    string    `json:"endpoint"`
	Tags        []string  `json:"tags"`
	Keys        []string  `json:"keys"`
	Waiting     int64     `json:"waiting"`
	Strategy    string    `json:"strategy"`
	Format      string    `json:"format"`
	Paused      bool      `json:"paused"`
	Signed      bool      `json:"signed"`
	Rate        int       `json:"rate"`
	Concurrency int       `json:"concurrency"`
	Ordered     bool      `json:"ordered"`
	DeadLetter  string    `json:"deadLetter"`
	CA          string    `json:"ca"`
	Agent       string    `json:"agent"`
	Agents      *int      `json:"agents"` // that are connected; null: not an agent's, or not known
	Created     time.Time `json:"created"`
	Modified    time.Time `json:"modified"`
}

func (a *app) showSubscription(ctx context.Context, t *client.Topic, name string) error {
	at, err := t.Subscription(ctx, name)
	if err != nil {
		return err
	}
	p := &at.Push
	v := subscriptionView{Topic: t.Name(), Name: name, Protocol: at.Protocol, Endpoint: at.Endpoint, Tags: append([]string{}, at.FilterTags...),
		Keys: append([]string{}, at.BindingKeys...), Waiting: at.MsgCount, Strategy: at.NotifyStrategy, Format: at.NotifyContentFormat,
		Paused: valueOf(p.Paused), Signed: at.Signed, Rate: valueOf(p.Rate), Concurrency: valueOf(p.Concurrency), Ordered: valueOf(p.Ordered),
		DeadLetter: valueOf(p.DeadLetter), CA: valueOf(p.CA), Agent: valueOf(p.Agent), Agents: at.Agents, Created: at.Created.UTC(), Modified: at.Modified.UTC()}
	rows := [][]string{
		{"topic", v.Topic}, {"name", v.Name}, {"protocol", v.Protocol}, {"endpoint", v.Endpoint},
		{"tags", strings.Join(v.Tags, ", ")}, {"keys", strings.Join(v.Keys, ", ")},
		{"waiting", strconv.FormatInt(v.Waiting, 10)}, {"strategy", v.Strategy}, {"format", v.Format},
	}
	rows = append(rows, v.pushRows()...)
	return a.show(v, nil, append(rows, []string{"created", v.Created.Format(time.RFC3339)}, []string{"modified", v.Modified.Format(time.RFC3339)}))
}

// pushRows are the lines of the table for what differs from the default.
func (v *subscriptionView) pushRows() (rows [][]string) {
	for _, r := range []struct {
		name, value string
		set         bool
	}{
		{"paused", "yes", v.Paused}, {"signed", "yes", v.Signed}, {"rate", strconv.Itoa(v.Rate) + " a second", v.Rate > 0},
		{"concurrency", strconv.Itoa(v.Concurrency), v.Concurrency > 0}, {"ordered", "yes", v.Ordered},
		{"dead letter", v.DeadLetter, v.DeadLetter != ""}, {"certificates", "its own", v.CA != ""},
		{"agent", v.agentText(), v.Agent != ""},
	} {
		if r.set {
			rows = append(rows, []string{r.name, r.value})
		}
	}
	return rows
}

// agentText is the agent's name, and whether there is one to deliver.
func (v *subscriptionView) agentText() string {
	switch {
	case v.Agents == nil:
		return v.Agent
	case *v.Agents == 0:
		return v.Agent + " (none is connected: messages wait)"
	}
	return fmt.Sprintf("%s (%d connected)", v.Agent, *v.Agents)
}

func valueOf[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

func (a *app) subscriptionDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete TOPIC NAME", Short: "remove a subscription and what it has still to deliver", Args: exactly("TOPIC", "NAME")}
	a.asking(cmd, "subscription", "delete", "deleted", func(ctx context.Context, c *client.Client, args []string) error {
		return c.Topic(args[0]).Unsubscribe(ctx, args[1])
	})
	return cmd
}

func (a *app) subscriptionPause(verb, short, done string, paused bool) *cobra.Command {
	return a.onSubscription(verb, short, done, func(ctx context.Context, t *client.Topic, name string) error {
		return t.SetSubscription(ctx, name, client.Subscription{Push: client.PushSettings{Paused: &paused}})
	})
}

func (a *app) subscriptionClearTags() *cobra.Command {
	return a.onSubscription("clear-tags", "take all tags away, so that it gets every message of a topic that filters by tags", "cleared",
		func(ctx context.Context, t *client.Topic, name string) error { return t.ClearFilterTags(ctx, name) })
}

func (a *app) onSubscription(verb, short, done string, do func(context.Context, *client.Topic, string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " TOPIC NAME", Short: short, Args: exactly("TOPIC", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				if err := do(ctx, c.Topic(args[0]), args[1]); err != nil {
					return err
				}
				return a.done(done, args[1])
			})
		},
	}
}
