// Package demo is the frame of the scenario programs: it connects one to a service, gives it queues and topics of its
// own, which are removed at the end, and says how it ended. The programs themselves show how the SDK is used; nothing of
// that is here.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/opencmq/cmq/client"
)

// Demo is one run of a scenario.
type Demo struct {
	*client.Client

	run     string // makes the names of this run different from those of all others
	cleanup []func(context.Context) error
}

// limit is how long a scenario may take.
const limit = 2 * time.Minute

// Main runs a scenario against the service that CMQ_ENDPOINT (one address or more, separated by commas), CMQ_SECRET_ID and
// CMQ_SECRET_KEY name, and ends the program: with 1 and a message if the scenario did not come out as it should.
func Main(scenario func(ctx context.Context, d *Demo) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithTimeout(ctx, limit)
	err := run(ctx, scenario)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func run(ctx context.Context, scenario func(ctx context.Context, d *Demo) error) error {
	endpoints, id, key := strings.Split(os.Getenv("CMQ_ENDPOINT"), ","), os.Getenv("CMQ_SECRET_ID"), os.Getenv("CMQ_SECRET_KEY")
	if endpoints[0] == "" || id == "" || key == "" {
		return errors.New("CMQ_ENDPOINT, CMQ_SECRET_ID and CMQ_SECRET_KEY must be set; cmq dev starts a service and prints them")
	}
	c, err := client.New(endpoints[0], id, key, client.WithEndpoints(endpoints[1:]...))
	if err != nil {
		return err
	}
	d := &Demo{Client: c, run: strings.ToLower(rand.Text()[:8])}
	err = scenario(ctx, d)
	d.undo(context.WithoutCancel(ctx))
	return errors.Join(err, c.Close())
}

// undo removes what the scenario made, the newest first. What cannot be removed stays: the scenario is over.
func (d *Demo) undo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for i := len(d.cleanup) - 1; i >= 0; i-- {
		if err := d.cleanup[i](ctx); err != nil {
			fmt.Fprintln(os.Stderr, "not removed:", err)
		}
	}
}

// MakeQueue makes a queue of this run.
func (d *Demo) MakeQueue(ctx context.Context, name string, s client.Settings) (*client.Queue, error) {
	name += "-" + d.run
	if _, err := d.CreateQueue(ctx, name, s); err != nil {
		return nil, err
	}
	d.cleanup = append(d.cleanup, func(ctx context.Context) error {
		if err := d.DeleteQueue(ctx, name); !errors.Is(err, client.ErrQueueNotExist) {
			return err
		}
		return nil // the scenario has deleted it
	})
	return d.Queue(name), nil
}

// MakeTopic makes a topic of this run. Its subscriptions are removed with it.
func (d *Demo) MakeTopic(ctx context.Context, name string, s client.TopicSettings) (*client.Topic, error) {
	name += "-" + d.run
	if _, err := d.CreateTopic(ctx, name, s); err != nil {
		return nil, err
	}
	topic := d.Topic(name)
	d.cleanup = append(d.cleanup, func(ctx context.Context) error {
		for {
			list, err := topic.Subscriptions(ctx, client.ListOptions{Limit: 100})
			if err != nil {
				return err
			}
			if len(list.Subscriptions) == 0 {
				return d.DeleteTopic(ctx, name)
			}
			for _, s := range list.Subscriptions {
				if err := topic.Unsubscribe(ctx, s.Name); err != nil {
					return err
				}
			}
		}
	})
	return topic, nil
}

// Serve serves HTTP on a port of this machine until the end of the run, and gives its address: http://127.0.0.1:PORT.
func (d *Demo) Serve(h http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go s.Serve(l) // ends with Close
	d.cleanup = append(d.cleanup, func(context.Context) error { return s.Close() })
	return "http://" + l.Addr().String(), nil
}

// Nobody is the address of a port on which nobody listens.
func Nobody() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return "http://" + l.Addr().String(), l.Close()
}

// Say tells the reader of the program's output what happens.
func Say(format string, args ...any) { fmt.Printf(format+"\n", args...) }
