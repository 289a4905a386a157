package node

import (
	"log/slog"
	"net"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Options say what node to start. Listeners are open already, so that a caller that starts several nodes knows all
// ports; they belong to the node from Start on.
type Options struct {
	ID      cmq.NodeID
	DataDir string
	Cluster string     // name of the cluster
	Nodes   []cmq.Node // all nodes of a new cluster, or some of an old one; and this one, with the addresses they advertise
	Join    bool       // the cluster is there already and does not know this node yet
	Key     cmq.AccessKey

	HTTP  net.Listener // nil: no such door
	TCP   net.Listener
	Peer  net.Listener // nil: a cluster of one
	Admin net.Listener

	Limits      cmq.Limits // cmq.DefaultLimits if zero
	ClockSkew   time.Duration
	HostAliases []string
	SegmentSize int64 // bytes of one file of the log; 64 MiB if zero
	CacheBytes  int64 // newest part of each set's log kept in memory; 32 MiB if zero
	Logger      *slog.Logger

	// Failed is told when the node cannot go on: a disk failed, or data is damaged. Nil: panic.
	Failed func(error)
}
