package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/access/httpapi"
	"github.com/opencmq/cmq/internal/access/tcpapi"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/route"
)

// keys gives the doors the access keys of the newest table.
type keys struct{ n *Node }

// Key implements auth.Keys.
func (k keys) Key(id string) (*cmq.AccessKey, bool) {
	key := k.n.meta.Table().Key(id)
	return key, key != nil
}

// Loaded implements auth.Loading: a node that has just started does not know any key before it has the table.
func (k keys) Loaded() bool { return k.n.meta.Table().Version() > 0 }

// maxPolls is how many requests may wait for a message at a time, over all doors.
const maxPolls = 100_000

// startDoors begins to serve clients and operators.
func (n *Node) startDoors() {
	n.polls = access.NewPolls(maxPolls)
	n.producers = access.NewProducers(n.opt.ID, n.router, n.log)
	n.door = httpapi.New(httpapi.Config{
		Polls:   n.polls,
		Backend: n.router, Keys: keys{n}, Limits: n.opt.Limits, Logger: n.log,
		Hosts: n.opt.HostAliases, Window: n.opt.ClockSkew, Endpoint: n.endpointProblem, Protocols: n.protocols(),
		Producers: n.producers,
	})
	if n.opt.HTTP != nil {
		n.serve(n.door.NewServer(), n.opt.HTTP)
	}
	n.tcpDoor = tcpapi.New(tcpapi.Config{
		Producers: n.producers, Polls: n.polls, Backend: n.router, Keys: keys{n}, Limits: n.opt.Limits, Logger: n.log,
		MaxConns: n.opt.TCPDoor.MaxConns, MaxStrangers: n.opt.TCPDoor.MaxStrangers,
		AuthTimeout: n.opt.TCPDoor.AuthTimeout, IdleTimeout: n.opt.TCPDoor.IdleTimeout,
	})
	if n.opt.TCP != nil {
		n.wg.Go(func() { n.serveTCP(n.opt.TCP) })
	}
	if n.opt.Admin != nil {
		n.serve(&http.Server{Handler: n.adminHandler(), ReadHeaderTimeout: 5 * time.Second}, n.opt.Admin)
	}
}

func (n *Node) serve(s *http.Server, l net.Listener) {
	n.servers = append(n.servers, s)
	n.wg.Go(func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("a listener failed", "addr", l.Addr(), "error", err)
		}
	})
}

func (n *Node) serveTCP(l net.Listener) {
	if err := n.tcpDoor.Serve(l); !errors.Is(err, tcpapi.ErrClosed) {
		n.log.Error("a listener failed", "addr", l.Addr(), "error", err)
	}
}

// stopDoors stops accepting, lets open requests end until ctx does, and then cuts the rest off. Parked polls end at once:
// their clients ask again, on another node.
func (n *Node) stopDoors(ctx context.Context) error {
	if n.polls != nil {
		n.polls.End()
	}
	if n.opt.TCP != nil {
		n.opt.TCP.Close()
	}
	var tcp error
	var wg sync.WaitGroup
	if n.tcpDoor != nil {
		wg.Go(func() {
			tcp = n.tcpDoor.Shutdown(ctx)
			n.producers.Close()
		})
	}
	var err error
	for _, s := range n.servers {
		if e := s.Shutdown(ctx); e != nil {
			err = errors.Join(err, s.Close())
		}
	}
	wg.Wait()
	if tcp != nil {
		n.log.Info("connections of the TCP door were cut off", "error", tcp)
	}
	return err
}

var _ route.Local = (*Node)(nil)
