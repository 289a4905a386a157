package transport

import "sync/atomic"

// Counters count what a Transport has done since its start.
type Counters struct {
	BytesSent      atomic.Uint64
	BytesReceived  atomic.Uint64
	FramesSent     atomic.Uint64
	FramesReceived atomic.Uint64
	Dropped        atomic.Uint64 // messages and calls not sent: queue full, or peer not reachable
	Connects       atomic.Uint64 // connections dialled and welcomed
	Lost           atomic.Uint64 // of these, those that ended before Close
	Refused        atomic.Uint64 // incoming connections refused: wrong cluster, unknown node, garbage, too many
	Damaged        atomic.Uint64 // connections closed because of what arrived on them
	Calls          atomic.Uint64 // calls begun here
	CallsServed    atomic.Uint64 // calls handled for peers
}
