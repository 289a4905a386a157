package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/client"
)

// trialView is the JSON form of what came of cmq subscription test.
type trialView struct {
	Taken  bool   `json:"taken"`
	Reason string `json:"reason"`
	Status int    `json:"status"`
	TookMS int64  `json:"tookMilliseconds"`
	Sent   string `json:"sent"`
	Advice string `json:"advice"`
}

func (a *app) subscriptionTest() *cobra.Command {
	var body string
	cmd := &cobra.Command{
		Use: "test TOPIC NAME", Short: "deliver one message now and say what came of it", Args: exactly("TOPIC", "NAME"),
		Long: "The node that delivers what is published sends one message to the endpoint, as it would any other. Nobody has published it: it is\n" +
			"not stored, goes to no other subscription and is not tried again. Shows what was sent, without credentials, and what came\n" +
			"of it; exits with 1 if the endpoint did not take it, and says what to do. Of a subscription that delivers to a queue it\n" +
			"says whether there is the queue.",
	}
	cmd.Flags().StringVar(&body, "body", "", "body of the message; default: one that says that it is a test")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			t, err := c.Topic(args[0]).Test(ctx, args[1], body)
			if err != nil {
				return err
			}
			if err := a.showTrial(args[1], t); err != nil {
				return err
			}
			if !t.Taken {
				return quietError(exitFailure)
			}
			return nil
		})
	}
	return cmd
}

func (a *app) showTrial(name string, t *client.SubscriptionTest) error {
	v := trialView{Taken: t.Taken, Reason: t.Reason, Status: t.Status, TookMS: t.Took.Milliseconds(), Sent: t.Sent, Advice: t.Advice}
	result := "taken"
	switch {
	case t.Taken:
	case t.Status != 0:
		result = "not taken"
	default:
		result = "not taken: " + t.Reason
	}
	rows := [][]string{{"subscription", name}, {"result", result}}
	if t.Status != 0 {
		rows = append(rows, []string{"status", strconv.Itoa(t.Status)})
	}
	rows = append(rows, []string{"time", t.Took.String()})
	if t.Advice != "" {
		rows = append(rows, []string{"what to do", t.Advice})
	}
	if err := a.show(v, nil, rows); err != nil || a.output == "json" || t.Sent == "" {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "\n%s\n", indent(t.Sent))
	return err
}

// indent sets what was sent apart from what is said about it.
func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ")
}
