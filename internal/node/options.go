package node

import (
	"log/slog"
	"net"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/dispatch/push/mail"
	"github.com/opencmq/cmq/internal/dispatch/push/sms"
)

// Options say what node to start. Listeners are open already, so that a caller that starts several nodes knows all
// ports; they belong to the node from Start on.
type Options struct {
	ID      cmq.NodeID
	Version string // of the program, as it tells operators
	DataDir string
	Cluster string     // name of the cluster
	Nodes   []cmq.Node // all nodes of a new cluster, or some of an old one; and this one, with the addresses they advertise
	Join    bool       // the cluster is there already and does not know this node yet
	Key     cmq.AccessKey

	HTTP  net.Listener // nil: no such door
	TCP   net.Listener
	Peer  net.Listener // nil: a cluster of one
	Admin net.Listener

	TCPDoor TCPDoor

	Limits      cmq.Limits // cmq.DefaultLimits if zero
	ClockSkew   time.Duration
	HostAliases []string
	Storage     Storage
	PushPerHost int         // deliveries at once to one host; 0: any number
	PushAllow   []string    // ranges of addresses, beside public ones, that messages are delivered to
	Mail        mail.Server // where mails are handed in; without Addr none are sent
	SMS         sms.Gateway // what sends text messages; without URL none are
	Logger      *slog.Logger

	// Failed is told when the node cannot go on: a disk failed, or data is damaged. Nil: panic.
	Failed func(error)
}

// TCPDoor bounds the connections of the TCP door; what is zero is tcpapi's default.
type TCPDoor struct {
	MaxConns     int           // open connections
	MaxStrangers int           // of these, connections that have not said who they are
	AuthTimeout  time.Duration // for saying so
	IdleTimeout  time.Duration // for saying anything, once that is done
}

// Storage says how the disk is used.
type Storage struct {
	SegmentSize int64         // bytes of one file of the log; 64 MiB if zero
	CacheBytes  int64         // newest part of each set's log kept in memory; 32 MiB if zero
	SoftFree    uint64        // less free bytes refuse sends; 0: a twentieth of the disk, at most 2 GiB
	HardFree    uint64        // less free bytes refuse receives too; 0: a sixteenth of SoftFree
	FetchRate   int64         // bytes a second fetched from other replicas; 64 MiB if zero
	ScrubRate   int64         // bytes a second read by the search for damage, for each set; 0: it is off
	ScrubPause  time.Duration // between two of them; 10 minutes if zero
}

func (o *Storage) marks() datadir.Marks { return datadir.Marks{Soft: o.SoftFree, Hard: o.HardFree} }
