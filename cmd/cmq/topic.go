package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/client"
)

func (a *app) topicCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "topic", Short: "create, list, change and delete topics, and publish to them",
		Long: "What is published to a topic goes to all its subscriptions whose filter matches (see: cmq subscription).\n" +
			"A topic filters by tags or by keys; which, is chosen when it is created.",
	}
	cmd.AddCommand(a.topicCreate(), a.topicList(), a.topicShow(), a.topicSet(), a.topicDelete(), a.topicPublish())
	a.targetFlags(cmd.Commands()...)
	return parent(cmd)
}

// topicFlags are the flags of create and set.
func topicFlags(cmd *cobra.Command, s *client.TopicSettings) {
	f := cmd.Flags()
	f.IntVar(&s.MaxMsgSize, "max-size", 65536, "largest message, in bytes, 1024 to 1048576")
	f.DurationVar(&s.MsgRetention, "retention", 24*time.Hour, "how long a message is kept for subscriptions that do not have it yet, 1m to 24h")
}

// onlyGiven takes out what no flag was given for: the defaults in help texts are the server's.
func onlyGiven(cmd *cobra.Command, s client.TopicSettings) client.TopicSettings {
	if !cmd.Flags().Changed("max-size") {
		s.MaxMsgSize = 0
	}
	if !cmd.Flags().Changed("retention") {
		s.MsgRetention = 0
	}
	return s
}

// filters are the values of --filter.
var filters = map[string]client.Filter{"tags": client.ByTags, "keys": client.ByKey}

func filterName(f client.Filter) string {
	for name, value := range filters {
		if value == f {
			return name
		}
	}
	return strconv.Itoa(int(f))
}

func (a *app) topicCreate() *cobra.Command {
	var s client.TopicSettings
	cmd := &cobra.Command{Use: "create NAME", Short: "create a topic", Args: exactly("NAME")}
	topicFlags(cmd, &s)
	filter := cmd.Flags().String("filter", "tags", "by what subscriptions choose messages: tags or keys; it cannot be changed later")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		settings := onlyGiven(cmd, s)
		var known bool
		if settings.Filter, known = filters[*filter]; !known {
			return usagef("--filter %q is neither tags nor keys", *filter)
		}
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			id, err := c.CreateTopic(ctx, args[0], settings)
			if err != nil {
				return err
			}
			return a.show(client.TopicInfo{ID: id, Name: args[0]}, nil, [][]string{{"created", args[0], id}})
		})
	}
	return cmd
}

func (a *app) topicList() *cobra.Command {
	var search string
	cmd := &cobra.Command{Use: "list", Short: "list topics", Args: exactly()}
	cmd.Flags().StringVar(&search, "search", "", "only names that contain this")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			topics, rows := []client.TopicInfo{}, [][]string{}
			for {
				page, err := c.ListTopics(ctx, client.ListOptions{Search: search, Offset: len(topics), Limit: 50})
				if err != nil {
					return err
				}
				topics = append(topics, page.Topics...)
				if len(page.Topics) == 0 || len(topics) >= page.Total {
					break
				}
			}
			for _, t := range topics {
				rows = append(rows, []string{t.Name, t.ID})
			}
			return a.show(topics, []string{"name", "id"}, rows)
		})
	}
	return cmd
}

func (a *app) topicSet() *cobra.Command {
	var s client.TopicSettings
	cmd := &cobra.Command{Use: "set NAME", Short: "change settings of a topic; flags that are not given change nothing", Args: exactly("NAME")}
	topicFlags(cmd, &s)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		settings := onlyGiven(cmd, s)
		if settings == (client.TopicSettings{}) {
			return usagef("nothing to change; see: %s --help", cmd.CommandPath())
		}
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			t := c.Topic(args[0])
			if err := t.SetAttributes(ctx, settings); err != nil {
				return err
			}
			return a.showTopic(ctx, t)
		})
	}
	return cmd
}

func (a *app) topicShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "show settings and counters of a topic", Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd, func(ctx context.Context, c *client.Client) error { return a.showTopic(ctx, c.Topic(args[0])) })
		},
	}
}

// topicView is the JSON form.
type topicView struct {
	Name             string    `json:"name"`
	Filter           string    `json:"filter"`
	Waiting          int64     `json:"waiting"`
	MaxSize          int       `json:"maxSize"`
	RetentionSeconds int64     `json:"retentionSeconds"`
	Created          time.Time `json:"created"`
	Modified         time.Time `json:"modified"`
}

func (a *app) showTopic(ctx context.Context, t *client.Topic) error {
	at, err := t.Attributes(ctx)
	if err != nil {
		return err
	}
	v := topicView{Name: t.Name(), Filter: filterName(at.Filter), Waiting: at.MsgCount, MaxSize: at.MaxMsgSize,
		RetentionSeconds: int64(at.MsgRetention / time.Second), Created: at.Created.UTC(), Modified: at.Modified.UTC()}
	return a.show(v, nil, [][]string{
		{"name", v.Name}, {"filter", v.Filter}, {"waiting", strconv.FormatInt(v.Waiting, 10)}, {"max size", strconv.Itoa(v.MaxSize)},
		{"retention", at.MsgRetention.String()},
		{"created", v.Created.Format(time.RFC3339)}, {"modified", v.Modified.Format(time.RFC3339)},
	})
}

func (a *app) topicDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete NAME", Short: "delete a topic that has no subscriptions", Args: exactly("NAME")}
	a.asking(cmd, "topic", "delete", "deleted", func(ctx context.Context, c *client.Client, args []string) error { return c.DeleteTopic(ctx, args[0]) })
	return cmd
}

func (a *app) topicPublish() *cobra.Command {
	var o client.PublishOptions
	cmd := &cobra.Command{
		Use: "publish NAME [BODY]...", Short: "publish messages", Args: atLeast("NAME"),
		Long: "Publishes each BODY as one message and prints its id. Without BODY the message is read from standard input.\n" +
			"An id is printed once the message is on the disks of a majority of the nodes, for all subscriptions that match.\n" +
			"A message that no subscription matches is refused and not stored.",
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.Tags, "tag", nil, "tag of the messages, for a topic that filters by tags; repeat it for up to 5")
	f.StringVar(&o.RoutingKey, "key", "", "routing key of the messages, such as order.paid.eu, for a topic that filters by keys")
	lines := f.Bool("lines", false, "standard input has one message per line")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *lines && len(args) > 1 {
			return usagef("--lines reads standard input; it takes no BODY")
		}
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			t := c.Topic(args[0])
			s := &sending{app: a, send: func(ctx context.Context, bodies []string) ([]string, error) {
				if len(bodies) == 1 {
					id, err := t.Publish(ctx, bodies[0], o)
					return []string{id}, err
				}
				return t.BatchPublish(ctx, bodies, o)
			}}
			return s.run(ctx, args[1:], *lines)
		})
	}
	return cmd
}
