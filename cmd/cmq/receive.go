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

func (a *app) receiveCommand() *cobra.Command {
	var r receiving
	cmd := &cobra.Command{
		Use: "receive QUEUE", Short: "receive messages", Args: exactly("QUEUE"),
		Long: "Receives up to --max messages and prints them. They stay locked for the queue's visibility timeout and come\n" +
			"back after it, unless they are deleted: with --delete, or with: cmq delete QUEUE HANDLE\n" +
			"With -o json there is one JSON object a line. The exit code is 3 if there was no message.",
	}
	f := cmd.Flags()
	f.IntVar(&r.max, "max", 1, "messages at most")
	f.DurationVar(&r.wait, "wait", 0, "how long to wait for a message, up to 30s")
	f.BoolVar(&r.delete, "delete", false, "delete the messages after they are printed")
	f.BoolVar(&r.bodies, "body", false, "print only the bodies, each followed by a newline")
	a.targetFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if r.max < 1 {
			return usagef("--max is at least 1")
		}
		if !cmd.Flags().Changed("wait") {
			r.wait = client.QueueWait
		} else if r.wait < 0 || r.wait > 30*time.Second {
			return usagef("--wait is from 0s to 30s")
		}
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			return r.run(ctx, a, c.Queue(args[0]))
		})
	}
	return cmd
}

type receiving struct {
	max            int
	wait           time.Duration
	delete, bodies bool
}

// run receives in batches. Only the first waits: what is there now is what is shown.
func (r receiving) run(ctx context.Context, a *app, q *client.Queue) error {
	for got, wait := 0, r.wait; got < r.max; wait = 0 {
		n := min(r.max-got, client.MaxBatch)
		messages, err := q.BatchReceive(ctx, n, wait)
		if errors.Is(err, client.ErrNoMessage) && got > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.print(a, messages, got == 0); err != nil {
			return err
		}
		if err := r.ack(ctx, q, messages); err != nil {
			return err
		}
		got += len(messages)
	}
	return nil
}

// messageView is the JSON form of a message.
type messageView struct {
	ID           string    `json:"msgId"`
	Handle       string    `json:"receiptHandle"`
	Body         string    `json:"msgBody"`
	Enqueued     time.Time `json:"enqueued"`
	FirstDequeue time.Time `json:"firstDequeue"`
	NextVisible  time.Time `json:"nextVisible"`
	DequeueCount int       `json:"dequeueCount"`
}

func (r receiving) print(a *app, messages []client.Message, first bool) error {
	var rows [][]string
	for _, m := range messages {
		var err error
		switch {
		case r.bodies:
			_, err = fmt.Fprintln(a.stdout, m.Body)
		case a.output == "json":
			err = a.jsonLine(messageView{m.ID, m.Handle, m.Body, m.Enqueued.UTC(), m.FirstDequeue.UTC(), m.NextVisible.UTC(), m.DequeueCount})
		default:
			rows = append(rows, []string{m.ID, m.Handle, strconv.Itoa(m.DequeueCount), m.Enqueued.Format(time.RFC3339), oneLine(m.Body, 200)})
		}
		if err != nil {
			return err
		}
	}
	if rows == nil {
		return nil
	}
	header := []string{"id", "handle", "receives", "sent", "body"}
	if !first {
		header = nil
	}
	return a.table(header, rows)
}

func (r receiving) ack(ctx context.Context, q *client.Queue, messages []client.Message) error {
	if !r.delete {
		return nil
	}
	handles := make([]string, len(messages))
	for i, m := range messages {
		handles[i] = m.Handle
	}
	if len(handles) == 1 {
		return q.Delete(ctx, handles[0])
	}
	return q.BatchDelete(ctx, handles)
}
