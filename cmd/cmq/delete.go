package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/client"
)

func (a *app) deleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete QUEUE HANDLE...", Short: "delete received messages by their receipt handles", Args: atLeast("QUEUE", "HANDLE"),
	}
	a.targetFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			q, handles := c.Queue(args[0]), args[1:]
			err := error(nil)
			if n := len(handles); n == 1 {
				err = q.Delete(ctx, handles[0])
			} else {
				err = q.BatchDelete(ctx, handles)
			}
			if err != nil {
				return err
			}
			n := len(handles)
			return a.show(map[string]int{"deleted": n}, nil, [][]string{{"deleted", strconv.Itoa(n)}})
		})
	}
	return cmd
}
