// Program images has pictures processed by a number of workers. The requests are in one queue: which picture of the
// storage, what is to be done with it, and where the result goes. The results are announced in another.
//
// Workers die in the middle of their work, which takes longer than the lock of a message lasts: the consumer prolongs it
// as long as the worker lives. What a dead worker leaves comes back when the lock ends and is done by another. In the end
// every picture has its result, and it is the right one; also when a node of the service dies meanwhile.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/examples/internal/demo"
)

const (
	pictures = 60
	workers  = 6
	lock     = 2 * time.Second
	longWork = 3 * time.Second // longer than the lock
)

// job is one request.
type job struct {
	Picture   string `json:"picture"`   // key in the storage
	Operation string `json:"operation"` // "mirror" or "invert"
	Result    string `json:"result"`    // key in the storage
	Long      bool   `json:"long"`      // it takes its time
}

// storage holds pictures as PNG files by their keys.
type storage struct {
	mu    sync.Mutex
	files map[string][]byte
}

func (s *storage) put(key string, picture image.Image) error {
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[key] = b.Bytes()
	return nil
}

func (s *storage) get(key string) (image.Image, error) {
	s.mu.Lock()
	file, ok := s.files[key]
	s.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("no picture %q", key)
	}
	return png.Decode(bytes.NewReader(file))
}

func main() { demo.Main(scenario) }

func scenario(ctx context.Context, d *demo.Demo) error {
	requests, err := d.MakeQueue(ctx, "images-requests", client.Settings{VisibilityTimeout: new(lock)})
	if err != nil {
		return err
	}
	results, err := d.MakeQueue(ctx, "images-results", client.Settings{VisibilityTimeout: new(lock)})
	if err != nil {
		return err
	}
	shop := &workshop{store: &storage{files: map[string][]byte{}}, requests: requests, results: results}
	jobs, err := shop.order(ctx)
	if err != nil {
		return err
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() { shop.employ(working) })
	}
	err = shop.collect(ctx, jobs)
	stop()
	wg.Wait()
	if err != nil {
		return err
	}
	return shop.check(jobs)
}

// workshop is the workers and what they work with.
type workshop struct {
	store             *storage
	requests, results *client.Queue

	mu     sync.Mutex
	deaths int
}

// order puts pictures into the storage and the requests into the queue.
func (w *workshop) order(ctx context.Context) ([]job, error) {
	var jobs []job
	p := w.requests.NewProducer(client.ProducerOptions{Once: true})
	for i := range pictures {
		j := job{Picture: fmt.Sprintf("in/%d", i), Operation: []string{"mirror", "invert"}[i%2], Result: fmt.Sprintf("out/%d", i), Long: i%10 == 0}
		jobs = append(jobs, j)
		if err := w.store.put(j.Picture, paint(i)); err != nil {
			return nil, err
		}
		body, err := json.Marshal(j)
		if err != nil {
			return nil, err
		}
		if _, err := p.SendAsync(ctx, string(body)); err != nil {
			return nil, err
		}
	}
	return jobs, p.Close(ctx)
}

// paint makes a picture that no other number has.
func paint(n int) image.Image {
	picture := image.NewGray(image.Rect(0, 0, 16, 16))
	for x := range 16 {
		for y := range 16 {
			picture.SetGray(x, y, color.Gray{Y: uint8(n*7 + x*13 + y)})
		}
	}
	return picture
}

var errDead = errors.New("the worker has died")

// employ lets workers work, one after the other, each until it dies, and takes on the next one.
func (w *workshop) employ(ctx context.Context) {
	for ctx.Err() == nil {
		life, die := context.WithCancelCause(ctx)
		_ = w.requests.Consume(life, func(ctx context.Context, m *client.Message) error {
			err := w.work(ctx, m)
			if errors.Is(err, errDead) {
				w.mu.Lock()
				w.deaths++
				w.mu.Unlock()
				die(errDead)
			}
			return err
		}, client.ConsumerOptions{Concurrency: 1, Prefetch: -1, Wait: time.Second, RetryDelay: func(*client.Message, error) time.Duration { return -1 }})
		die(nil)
	}
}

// work does one job and announces its result. One in eight workers does not live to the end of it.
func (w *workshop) work(ctx context.Context, m *client.Message) error {
	var j job
	if err := json.Unmarshal([]byte(m.Body), &j); err != nil {
		return err
	}
	if j.Long {
		select {
		case <-time.After(longWork):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if rand.IntN(8) == 0 {
		return errDead
	}
	picture, err := w.store.get(j.Picture)
	if err != nil {
		return err
	}
	if err := w.store.put(j.Result, process(picture, j.Operation)); err != nil {
		return err
	}
	_, err = w.results.Send(ctx, j.Result)
	return err
}

// process makes the picture that the operation asks for.
func process(picture image.Image, operation string) image.Image {
	size := picture.Bounds()
	out := image.NewGray(size)
	for x := size.Min.X; x < size.Max.X; x++ {
		for y := size.Min.Y; y < size.Max.Y; y++ {
			gray := color.GrayModel.Convert(picture.At(x, y)).(color.Gray)
			if operation == "mirror" {
				out.SetGray(size.Max.X-1-x, y, gray)
			} else {
				out.SetGray(x, y, color.Gray{Y: 255 - gray.Y})
			}
		}
	}
	return out
}

// collect waits for an announcement of every result. One that comes twice is no harm: a worker died after it, or it could not be
// deleted when it came first.
func (w *workshop) collect(ctx context.Context, jobs []job) error {
	missing := map[string]bool{}
	for _, j := range jobs {
		missing[j.Result] = true
	}
	collecting, all := context.WithCancel(ctx)
	defer all()
	err := w.results.Consume(collecting, func(_ context.Context, m *client.Message) error {
		if delete(missing, m.Body); len(missing) == 0 {
			all()
		}
		return nil
	}, client.ConsumerOptions{Concurrency: 1})
	if len(missing) > 0 {
		return fmt.Errorf("%d results are missing: %w", len(missing), err)
	}
	return nil
}

// check compares every result with what the operation makes of the picture.
func (w *workshop) check(jobs []job) error {
	for i, j := range jobs {
		got, err := w.store.get(j.Result)
		if err != nil {
			return err
		}
		want := process(paint(i), j.Operation)
		for x := range 16 {
			for y := range 16 {
				if got.At(x, y) != want.At(x, y) {
					return fmt.Errorf("%s of %s is wrong at %d, %d", j.Operation, j.Picture, x, y)
				}
			}
		}
	}
	if w.deaths == 0 {
		return errors.New("no worker has died, so nothing was shown")
	}
	demo.Say("%d pictures are processed, though %d workers died at their work", pictures, w.deaths)
	return nil
}
