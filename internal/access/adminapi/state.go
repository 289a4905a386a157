// Package adminapi is the operator's door: the words in which a node tells what it is doing. Package node fills them in and
// serves them; package doctor and others who look at a running node read them.
package adminapi

import (
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// StatePath is where the admin address serves a State as JSON. It is only read, costs about as much as a scrape of the metrics, and
// has neither secrets nor bodies of messages.
const StatePath = "/debug/state"

// State is what one node knows of itself and of the others.
type State struct {
	Now      time.Time  `json:"now"` // the node's wall clock
	Started  time.Time  `json:"started"`
	Version  string     `json:"version"`
	Node     cmq.NodeID `json:"node"`
	Cluster  string     `json:"cluster"`
	Stopping bool       `json:"stopping"`
	Process  Process    `json:"process"`
	Disk     Disk       `json:"disk"`
	Metadata Metadata   `json:"metadata"`
	Nodes    []Node     `json:"nodes"` // of the cluster, as this node's metadata knows them; ascending
	Sets     []Set      `json:"sets"`  // with a replica here; ascending
}

// Process is the server's process.
type Process struct {
	PID         int    `json:"pid"`
	Memory      uint64 `json:"memoryBytes"` // taken from the system by the Go runtime
	Goroutines  int    `json:"goroutines"`
	Descriptors int    `json:"descriptors"`     // open files and connections; 0: not known
	Limit       uint64 `json:"descriptorLimit"` // how many it may open; 0: not known
	Need        uint64 `json:"descriptorNeed"`  // how many it may come to need with the connections it has
	Connections int    `json:"connections"`     // of clients to the HTTP door
}

// Disk is the disk of the data directory.
type Disk struct {
	Dir        string `json:"dir"`
	Total      uint64 `json:"totalBytes"`
	Free       uint64 `json:"freeBytes"`
	Soft       uint64 `json:"softBytes"` // with less free sends are refused
	Hard       uint64 `json:"hardBytes"` // with less free receives too
	Inodes     uint64 `json:"inodes"`    // 0: the file system has no limit
	FreeInodes uint64 `json:"freeInodes"`
	SoftInodes uint64 `json:"softInodes"`
	HardInodes uint64 `json:"hardInodes"`
	Error      string `json:"error,omitempty"` // why the above is not known
}

// Metadata is the table that says where queues and topics are.
type Metadata struct {
	Version       uint64 `json:"version"` // 0: the cluster is not bootstrapped, or not heard of
	Queues        int    `json:"queues"`
	Topics        int    `json:"topics"`
	Subscriptions int    `json:"subscriptions"`
	Tasks         int    `json:"tasks"` // that sets have still to be told
}

// Node is a node of the cluster and its addresses.
type Node struct {
	ID    cmq.NodeID `json:"id"`
	HTTP  string     `json:"http"`
	Peer  string     `json:"peer"`
	Admin string     `json:"admin"`
}

// Set is this node's replica of one set.
type Set struct {
	Set      cmq.SetID    `json:"set"`
	Voters   []cmq.NodeID `json:"voters"`
	Leader   cmq.NodeID   `json:"leader"` // as this replica knows; 0: it knows none
	Leading  bool         `json:"leading"`
	Hangs    bool         `json:"hangs"`    // the loop did not answer in time: what follows is what it published last
	Fetching bool         `json:"fetching"` // it is being filled from another replica
	Repair   *Repair      `json:"repair,omitempty"`
	Damage   []Damage     `json:"damage,omitempty"` // found and not healed yet

	Term      uint64 `json:"term"`
	First     uint64 `json:"first"` // raft indexes in the log
	Last      uint64 `json:"last"`
	Committed uint64 `json:"committed"`
	Applied   uint64 `json:"applied"`
	Image     uint64 `json:"image"` // index of the newest image

	LogBytes     int64 `json:"logBytes"`
	ArchiveBytes int64 `json:"archiveBytes"`
	Full         int   `json:"full"` // the fullest disk of the set, as this replica knows: 0 there is room, 1 sends are refused, 2 receives too

	Sync    time.Duration `json:"syncNanoseconds"`    // median of the latest synced writes; 0: too few
	Writing time.Duration `json:"writingNanoseconds"` // how long the write that is out has taken so far; 0: none is out

	ClockOffset *int64    `json:"clockOffsetMilliseconds,omitempty"` // of cluster time to this node's wall clock; nil: there is no cluster time
	Replicas    []Replica `json:"replicas"`                          // the others

	Scrub     Scrub       `json:"scrub"`
	Undecided []Undecided `json:"undecided,omitempty"` // queues with prepared messages nobody is asked about any more, while this replica leads; the first 100

	WrongStates uint64 `json:"wrongStates"` // how often the state was not that of most replicas and was replaced, since the start
	Mended      uint64 `json:"mended"`      // messages that could not be read here and came from another replica, since the start
	Quarantined uint64 `json:"quarantined"` // messages deleted because no replica could give them, since the start
	Refused     uint64 `json:"refused"`     // requests refused because too much was waiting, since the start
}

// Undecided is a queue with prepared messages whose producers were asked as often as the queue allows and did not answer:
// somebody must decide about them.
type Undecided struct {
	Owner    string `json:"owner"`
	Queue    string `json:"queue"`
	Messages int64  `json:"messages"`
}

// Repair says what a replica in repair lacks: it neither votes nor acknowledges.
type Repair struct {
	Vote  bool   `json:"vote"`  // term and vote are in doubt
	End   bool   `json:"end"`   // the log may have lost its end
	Image bool   `json:"image"` // no image can be read
	State bool   `json:"state"` // the state is not that of most replicas
	Lost  uint64 `json:"lost"`  // entries that cannot be read
}

// Damage is a place in a file that is not as it was written.
type Damage struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Kind   string `json:"kind"`
	Why    string `json:"why"`
}

// Replica is another replica of the set, as this one knows it.
type Replica struct {
	Node        cmq.NodeID    `json:"node"`
	Heard       *int64        `json:"heardMilliseconds,omitempty"`       // since its last message; nil: never. Followers hear little of each other
	ClockOffset *int64        `json:"clockOffsetMilliseconds,omitempty"` // of its wall clock to this node's, as of that message
	Sync        time.Duration `json:"syncNanoseconds"`                   // as in Set, as of that message
	Full        int           `json:"full"`
	// What only a leader knows:
	Active bool   `json:"active"` // it has answered lately
	Match  uint64 `json:"match"`  // highest index it is known to have
	State  string `json:"state"`  // probe, replicate, snapshot; empty: this replica does not lead
}

// Scrub is what the search for damage has done since the start.
type Scrub struct {
	Passes  uint64 `json:"passes"`  // complete readings of all files
	Damaged uint64 `json:"damaged"` // places found
}
