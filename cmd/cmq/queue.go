package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/client"
)

func (a *app) queueCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "queue", Short: "create, list, change and delete queues"}
	cmd.AddCommand(a.queueCreate(), a.queueList(), a.queueAttributes(), a.queueSet(), a.queueDelete(), a.queueRewind(), a.queueClear(),
		a.queueUndecided(), a.queueDecide())
	a.targetFlags(cmd.Commands()...)
	return parent(cmd)
}

// withClient runs f with a client; Ctrl-C ends its context.
func (a *app) withClient(cmd *cobra.Command, f func(ctx context.Context, c *client.Client) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, stop := interrupted(cmd.Context())
	defer stop()
	return f(ctx, c)
}

// queueSettings are the flags of create and set.
type queueSettings struct {
	visibility, polling, retention, rewind, maxTTL time.Duration
	heap                                           int64
	size, maxReceives, maxInFlight                 int
	deadLetter                                     string
	transactional                                  bool
	firstQuery                                     time.Duration
	maxQueries                                     int
}

func (s *queueSettings) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&s.visibility, "visibility-timeout", 30*time.Second, "how long a received message is locked, 1s to 12h")
	f.DurationVar(&s.polling, "polling-wait", 0, "how long a receive waits that does not say so itself, 0s to 30s")
	f.DurationVar(&s.retention, "retention", 96*time.Hour, "how long a message is kept, received or not, 1m to 360h")
	f.DurationVar(&s.rewind, "rewind", 0, "how long deleted messages can be rewound, up to the retention; 0s is off")
	f.Int64Var(&s.heap, "max-messages", 100_000_000, "messages the queue may hold")
	f.IntVar(&s.size, "max-size", 65536, "largest message, in bytes, 1024 to 1048576")
	f.IntVar(&s.maxInFlight, "max-in-flight", 120_000, "messages that may be locked at a time, 1 to 10000000")
	f.StringVar(&s.deadLetter, "dead-letter", "", "queue for messages that are not deleted in time; with --max-receives or --max-ttl")
	f.IntVar(&s.maxReceives, "max-receives", 0, "receives after which a message goes to the dead-letter queue, 1 to 1000")
	f.BoolVar(&s.transactional, "transactional", false, "the queue takes messages that are invisible until they are committed")
	f.DurationVar(&s.firstQuery, "first-query", 5*time.Second, "time without a decision after which a producer is asked, and again after it, 1s to 1h")
	f.IntVar(&s.maxQueries, "max-queries", 15, "how often a producer is asked, 1 to 100")
	f.DurationVar(&s.maxTTL, "max-ttl", 0, "age at which a message goes to the dead-letter queue, 5m to 12h")
}

// settings gives the values of those flags that were set.
func (s *queueSettings) settings(cmd *cobra.Command) (client.Settings, error) {
	var out client.Settings
	set := cmd.Flags().Changed
	for name, field := range map[string]struct {
		to   **time.Duration
		from *time.Duration
	}{
		"visibility-timeout": {&out.VisibilityTimeout, &s.visibility},
		"polling-wait":       {&out.PollingWait, &s.polling},
		"retention":          {&out.MsgRetention, &s.retention},
		"rewind":             {&out.Rewind, &s.rewind},
		"first-query":        {&out.FirstQuery, &s.firstQuery},
	} {
		if set(name) {
			*field.to = field.from
		}
	}
	if set("max-messages") {
		out.MaxMsgHeapNum = &s.heap
	}
	if set("transactional") {
		out.Transactional = &s.transactional
	}
	if set("max-queries") {
		out.MaxQueryCount = &s.maxQueries
	}
	if set("max-size") {
		out.MaxMsgSize = &s.size
	}
	if set("max-in-flight") {
		out.MaxInFlight = &s.maxInFlight
	}
	if set("max-receives") && set("max-ttl") {
		return out, usagef("--max-receives and --max-ttl exclude each other")
	}
	if (s.deadLetter == "") != (!set("max-receives") && !set("max-ttl")) {
		return out, usagef("--dead-letter NAME goes with --max-receives N or --max-ttl TIME")
	}
	if s.deadLetter != "" {
		out.DeadLetter = &client.DeadLetterPolicy{Queue: s.deadLetter, ByAge: set("max-ttl"), MaxReceiveCount: s.maxReceives, MaxTimeToLive: s.maxTTL}
	}
	return out, nil
}

func (a *app) queueCreate() *cobra.Command {
	var s queueSettings
	cmd := &cobra.Command{Use: "create NAME", Short: "create a queue", Args: exactly("NAME")}
	s.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		settings, err := s.settings(cmd)
		if err != nil {
			return err
		}
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			id, err := c.CreateQueue(ctx, args[0], settings)
			if err != nil {
				return err
			}
			return a.show(client.QueueInfo{ID: id, Name: args[0]}, nil, [][]string{{"created", args[0], id}})
		})
	}
	return cmd
}

func (a *app) queueSet() *cobra.Command {
	var s queueSettings
	cmd := &cobra.Command{Use: "set NAME", Short: "change settings of a queue; flags that are not given change nothing", Args: exactly("NAME")}
	s.flags(cmd)
	unbind := cmd.Flags().Bool("no-dead-letter", false, "take the dead-letter policy away")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		settings, err := s.settings(cmd)
		if err != nil {
			return err
		}
		if *unbind && settings.DeadLetter != nil {
			return usagef("--dead-letter and --no-dead-letter exclude each other")
		}
		if settings == (client.Settings{}) && !*unbind {
			return usagef("nothing to change; see: %s --help", cmd.CommandPath())
		}
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			q := c.Queue(args[0])
			if *unbind {
				if err := q.UnbindDeadLetter(ctx); err != nil {
					return err
				}
			}
			if settings != (client.Settings{}) {
				if err := q.SetAttributes(ctx, settings); err != nil {
					return err
				}
			}
			return a.showAttributes(ctx, q)
		})
	}
	return cmd
}

func (a *app) queueAttributes() *cobra.Command {
	return &cobra.Command{
		Use: "attributes NAME", Short: "show settings and counters of a queue", Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd, func(ctx context.Context, c *client.Client) error { return a.showAttributes(ctx, c.Queue(args[0])) })
		},
	}
}

// attributesView is the JSON form: durations in seconds and times as text, as people and scripts read them.
type attributesView struct {
	Name                  string           `json:"name"`
	Active                int64            `json:"active"`
	Inactive              int64            `json:"inactive"`
	Delayed               int64            `json:"delayed"`
	Rewindable            int64            `json:"rewindable"`
	Transactional         bool             `json:"transactional"`
	Prepared              int64            `json:"prepared"`
	Undecided             int64            `json:"undecided"`
	Oldest                time.Time        `json:"oldest"`
	MaxMessages           int64            `json:"maxMessages"`
	MaxSize               int              `json:"maxSize"`
	PollingWaitSeconds    int64            `json:"pollingWaitSeconds"`
	VisibilityTimeoutSecs int64            `json:"visibilityTimeoutSeconds"`
	RetentionSeconds      int64            `json:"retentionSeconds"`
	RewindSeconds         int64            `json:"rewindSeconds"`
	MaxInFlight           int              `json:"maxInFlight"`
	DeadLetter            *deadLetterViews `json:"deadLetter,omitempty"`
	Created               time.Time        `json:"created"`
	Modified              time.Time        `json:"modified"`
}

type deadLetterViews struct {
	Queue         string `json:"queue"`
	MaxReceives   int    `json:"maxReceives,omitempty"`
	MaxTTLSeconds int64  `json:"maxTtlSeconds,omitempty"`
}

func (a *app) showAttributes(ctx context.Context, q *client.Queue) error {
	at, err := q.Attributes(ctx)
	if err != nil {
		return err
	}
	v := attributesView{
		Name: q.Name(), Active: at.ActiveMsgNum, Inactive: at.InactiveMsgNum, Delayed: at.DelayMsgNum, Rewindable: at.RewindMsgNum,
		Transactional: at.Transactional, Prepared: at.PreparedMsgNum, Undecided: at.UndecidedMsgNum,
		Oldest: at.MinMsgTime.UTC(), MaxMessages: at.MaxMsgHeapNum, MaxSize: at.MaxMsgSize,
		PollingWaitSeconds: int64(at.PollingWait / time.Second), VisibilityTimeoutSecs: int64(at.VisibilityTimeout / time.Second),
		RetentionSeconds: int64(at.MsgRetention / time.Second), RewindSeconds: int64(at.Rewind / time.Second), MaxInFlight: at.MaxInFlight,
		Created: at.Created.UTC(), Modified: at.Modified.UTC(),
	}
	dead := "none"
	if d := at.DeadLetter; d != nil {
		v.DeadLetter = &deadLetterViews{Queue: d.Queue, MaxReceives: d.MaxReceiveCount, MaxTTLSeconds: int64(d.MaxTimeToLive / time.Second)}
		dead = fmt.Sprintf("%s after %d receives", d.Queue, d.MaxReceiveCount)
		if d.ByAge {
			dead = fmt.Sprintf("%s after %s", d.Queue, d.MaxTimeToLive)
		}
	}
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	rows := [][]string{
		{"name", v.Name},
		{"active", count(v.Active)}, {"inactive", count(v.Inactive)}, {"delayed", count(v.Delayed)}, {"rewindable", count(v.Rewindable)},
		{"oldest", v.Oldest.Format(time.RFC3339)},
		{"max messages", count(v.MaxMessages)}, {"max size", strconv.Itoa(v.MaxSize)},
		{"polling wait", at.PollingWait.String()}, {"visibility timeout", at.VisibilityTimeout.String()},
		{"retention", at.MsgRetention.String()}, {"rewind", at.Rewind.String()},
		{"max in flight", strconv.Itoa(v.MaxInFlight)},
		{"dead letter", dead},
		{"created", v.Created.Format(time.RFC3339)}, {"modified", v.Modified.Format(time.RFC3339)},
	}
	if v.Transactional || v.Prepared > 0 {
		rows = append(rows, []string{"prepared", count(v.Prepared)}, []string{"undecided", count(v.Undecided)},
			[]string{"first query", at.FirstQuery.String()}, []string{"max queries", strconv.Itoa(at.MaxQueryCount)})
	}
	return a.show(v, nil, rows)
}

func (a *app) queueList() *cobra.Command {
	var search string
	cmd := &cobra.Command{Use: "list", Short: "list queues", Args: exactly()}
	cmd.Flags().StringVar(&search, "search", "", "only names that contain this")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			queues, rows := []client.QueueInfo{}, [][]string{}
			for {
				page, err := c.ListQueues(ctx, client.ListOptions{Search: search, Offset: len(queues), Limit: 50})
				if err != nil {
					return err
				}
				queues = append(queues, page.Queues...)
				if len(page.Queues) == 0 || len(queues) >= page.Total {
					break
				}
			}
			for _, q := range queues {
				rows = append(rows, []string{q.Name, q.ID})
			}
			return a.show(queues, []string{"name", "id"}, rows)
		})
	}
	return cmd
}

func (a *app) queueDelete() *cobra.Command {
	return a.destructive("delete", "delete a queue with all its messages", "deleted",
		func(ctx context.Context, c *client.Client, name string) error { return c.DeleteQueue(ctx, name) })
}

func (a *app) queueClear() *cobra.Command {
	return a.destructive("clear", "delete all messages of a queue, those that could be rewound too", "cleared",
		func(ctx context.Context, c *client.Client, name string) error { return c.Queue(name).Clear(ctx) })
}

// destructive makes a command that wants the queue's name typed again, or --yes.
func (a *app) destructive(verb, short, done string, do func(context.Context, *client.Client, string) error) *cobra.Command {
	cmd := &cobra.Command{Use: verb + " NAME", Short: short, Args: exactly("NAME")}
	a.asking(cmd, "queue", verb, done, func(ctx context.Context, c *client.Client, args []string) error { return do(ctx, c, args[0]) })
	return cmd
}

// asking makes cmd do something to the thing its last argument names, after the name was typed again or with --yes.
func (a *app) asking(cmd *cobra.Command, thing, verb, done string, do func(context.Context, *client.Client, []string) error) {
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[len(args)-1]
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			if !*yes && !a.confirmed(thing, name, verb) {
				return usagef("not confirmed, nothing was done; --yes does it without asking")
			}
			if err := do(ctx, c, args); err != nil {
				return err
			}
			return a.done(done, name)
		})
	}
}

// done says what was done to what.
func (a *app) done(result, name string) error {
	return a.show(map[string]string{"name": name, "result": result}, nil, [][]string{{result, name}})
}

func (a *app) confirmed(thing, name, verb string) bool {
	fmt.Fprintf(a.stderr, "Type the %s's name to %s it: ", thing, verb)
	line, _ := bufio.NewReader(a.stdin).ReadString('\n')
	return strings.TrimSpace(line) == name
}

func (a *app) queueRewind() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rewind NAME --to TIME", Short: "make deleted messages active again that were sent at or after a time", Args: exactly("NAME"),
		Long: "Makes every deleted message active again that was sent at or after --to and is still kept (see --rewind of: cmq queue set).\n" +
			"TIME is a time such as 2026-01-31T12:00:00Z, Unix seconds, or a duration before now, such as 90s or 2h.",
	}
	to := cmd.Flags().String("to", "", "time, Unix seconds, or duration before now")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		at, err := parseMoment(*to, time.Now())
		if err != nil {
			return err
		}
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			if err := c.Queue(args[0]).Rewind(ctx, at); err != nil {
				return err
			}
			text := at.UTC().Format(time.RFC3339)
			return a.show(map[string]string{"name": args[0], "to": text}, nil, [][]string{{"rewound", args[0], text}})
		})
	}
	return cmd
}

func parseMoment(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && s != "0" && d >= 0 {
		return now.Add(-d), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 {
		return time.Unix(n, 0), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return time.Time{}, usagef("--to %q is no time; examples: 2026-01-31T12:00:00Z, 1769860800, 90s, 2h", s)
}

// jsonLine writes v as one line, for commands that stream.
func (a *app) jsonLine(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
