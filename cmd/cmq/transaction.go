package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/client"
)

// preparedView is the JSON form of a prepared message.
type preparedView struct {
	ID        string     `json:"id"`
	Size      int        `json:"size"`
	Prepared  *time.Time `json:"prepared,omitempty"`
	Queries   int        `json:"queries"`
	NextQuery *time.Time `json:"nextQuery,omitempty"`
	Undecided bool       `json:"undecided"`
	Node      int        `json:"node"`
	Producer  string     `json:"producer,omitempty"`
}

func (a *app) queueUndecided() *cobra.Command {
	cmd := &cobra.Command{
		Use: "undecided NAME", Short: "list prepared messages that nobody decides about", Args: exactly("NAME"),
		Long: "Lists the messages that were sent in transactions and whose producers were asked as often as the queue allows and did not\n" +
			"answer. They stay until somebody decides: see cmq queue decide. With --all, all prepared messages.",
	}
	all := cmd.Flags().Bool("all", false, "also messages whose producers are still asked")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			list, err := prepared(ctx, c.Queue(args[0]), !*all)
			if err != nil {
				return err
			}
			return a.showPrepared(list, time.Now())
		})
	}
	return cmd
}

// prepared reads all pages.
func prepared(ctx context.Context, q *client.Queue, undecided bool) (list []client.PreparedMessage, err error) {
	o := client.PreparedOptions{Undecided: undecided, Limit: 50}
	for {
		page, err := q.PreparedMessages(ctx, o)
		if err != nil {
			return nil, err
		}
		list = append(list, page...)
		if len(page) < o.Limit {
			return list, nil
		}
		o.After = page[len(page)-1].ID
	}
}

func (a *app) showPrepared(list []client.PreparedMessage, now time.Time) error {
	views, rows := []preparedView{}, [][]string{}
	for _, m := range list {
		v := preparedView{ID: m.ID, Size: m.Size, Queries: m.Queries, Undecided: m.Undecided, Node: m.Node, Producer: m.Producer}
		age, next, from := "-", "never", fmt.Sprintf("node %d", m.Node)
		if !m.Prepared.IsZero() {
			at := m.Prepared.UTC()
			v.Prepared, age = &at, now.Sub(at).Round(time.Second).String()
		}
		if !m.NextQuery.IsZero() {
			at := m.NextQuery.UTC()
			v.NextQuery, next = &at, at.Format(time.RFC3339)
		}
		if m.Producer != "" {
			from += ", " + m.Producer
		}
		views = append(views, v)
		rows = append(rows, []string{m.ID, age, strconv.Itoa(m.Size), strconv.Itoa(m.Queries), next, from})
	}
	return a.show(views, []string{"id", "age", "bytes", "queries", "next query", "producer"}, rows)
}

// decisions are the words of cmq queue decide.
var decisions = map[string]client.State{"commit": client.Commit, "rollback": client.Rollback}

func (a *app) queueDecide() *cobra.Command {
	return &cobra.Command{
		Use: "decide NAME commit|rollback ID...", Short: "commit or roll back prepared messages", Args: atLeast("NAME", "commit|rollback", "ID"),
		Long: "Decides about prepared messages in place of their producer: committed, they are the newest messages of the queue; rolled\n" +
			"back, they are gone. Their ids come from cmq queue undecided. Ask who runs the producer first: it cannot be undone.",
		RunE: func(cmd *cobra.Command, args []string) error {
			state, known := decisions[args[1]]
			if !known {
				return usagef("%q is no decision; it is commit or rollback", args[1])
			}
			return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				return a.decide(ctx, c.Queue(args[0]), state, args[2:])
			})
		},
	}
}

// decide says for each message what became of it; that one is not there, or was decided before, is an error.
func (a *app) decide(ctx context.Context, q *client.Queue, state client.State, ids []string) error {
	list := make([]client.Decision, len(ids))
	for i, id := range ids {
		list[i] = client.Decision{ID: id, State: state}
	}
	err := q.Confirm(ctx, list...)
	var failed *client.ConfirmError
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	result := make(map[string]string, len(ids))
	for _, id := range ids {
		result[id] = state.String()
	}
	if failed != nil {
		for _, f := range failed.Failed {
			result[f.ID] = f.Err.Message
		}
	}
	var rows [][]string
	for _, id := range ids {
		rows = append(rows, []string{id, result[id]})
	}
	if shown := a.show(result, nil, rows); shown != nil {
		return shown
	}
	return err
}
