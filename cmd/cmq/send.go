package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/client"
)

func (a *app) sendCommand() *cobra.Command {
	var (
		delay time.Duration
		lines bool
	)
	cmd := &cobra.Command{
		Use: "send QUEUE [BODY]...", Short: "send messages", Args: atLeast("QUEUE"),
		Long: "Sends each BODY as one message and prints its id. Without BODY the message is read from standard input.\n" +
			"An id is printed once the message is on the disks of a majority of the nodes.",
	}
	cmd.Flags().DurationVar(&delay, "delay", 0, "messages cannot be received before this time is over")
	cmd.Flags().BoolVar(&lines, "lines", false, "standard input has one message per line")
	a.targetFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if lines && len(args) > 1 {
			return usagef("--lines reads standard input; it takes no BODY")
		}
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			q := c.Queue(args[0])
			s := &sending{app: a, send: func(ctx context.Context, bodies []string) ([]string, error) {
				if len(bodies) == 1 {
					id, err := q.SendDelayed(ctx, bodies[0], delay)
					return []string{id}, err
				}
				return q.BatchSend(ctx, bodies, delay)
			}}
			return s.run(ctx, args[1:], lines)
		})
	}
	return cmd
}

// maxBody bounds what is read from standard input for one message: the largest message any queue takes is 1 MiB.
const maxBody = 1 << 20

// sending sends the messages of one command and prints their ids.
type sending struct {
	app  *app
	send func(ctx context.Context, bodies []string) (ids []string, err error) // one or more, as many as fit into a request
}

// run sends the bodies, or if there are none what standard input has: one message, or one in each line.
func (s *sending) run(ctx context.Context, bodies []string, lines bool) error {
	switch {
	case lines:
		return s.lines(ctx, s.app.stdin)
	case len(bodies) > 0:
		return s.all(ctx, bodies)
	}
	body, err := io.ReadAll(io.LimitReader(s.app.stdin, maxBody+1))
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	return s.all(ctx, []string{string(body)})
}

func (s *sending) all(ctx context.Context, bodies []string) error {
	for len(bodies) > 0 {
		n := batchLen(bodies)
		if err := s.batch(ctx, bodies[:n]); err != nil {
			return err
		}
		bodies = bodies[n:]
	}
	return nil
}

func (s *sending) lines(ctx context.Context, r io.Reader) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxBody+1)
	var batch []string
	for sc.Scan() {
		if sc.Text() == "" {
			continue
		}
		if batch = append(batch, sc.Text()); batchLen(batch) < len(batch) || len(batch) == client.MaxBatch {
			n := batchLen(batch)
			if err := s.batch(ctx, batch[:n]); err != nil {
				return err
			}
			batch = batch[n:]
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	return s.all(ctx, batch)
}

// batchLen is how many of bodies fit into one request: MaxBatch, and 64 KiB together, which every edition of the
// service accepts. At least one.
func batchLen(bodies []string) int {
	total := 0
	for i, b := range bodies {
		if total += len(b); i > 0 && (total > 64<<10 || i == client.MaxBatch) {
			return i
		}
	}
	return len(bodies)
}

func (s *sending) batch(ctx context.Context, bodies []string) error {
	ids, err := s.send(ctx, bodies)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if s.app.output == "json" {
			err = errors.Join(err, s.app.jsonLine(map[string]string{"msgId": id}))
		} else {
			_, werr := fmt.Fprintln(s.app.stdout, id)
			err = errors.Join(err, werr)
		}
	}
	return err
}
