// Package transport is the connections between nodes. It carries set.Message from replica to replica
// without promising that it arrives, and calls (request and reply) from node to node. It knows neither sets
// nor queues; node builds one Transport and gives it a Handler.
//
// A node dials every peer and uses what it dialled for what it sends; what the peer sends comes over the
// connections that the peer dialled. There are three of them each way, so that a heartbeat or a small call
// never waits behind megabytes:
//
//	control   raft's heartbeats, votes, acknowledgements; questions, digests
//	bulk      MsgApp and answers. An empty MsgApp goes here too: were it to overtake one with
//	          entries, the follower would refuse it and the leader would fall back to probing.
//	call      requests of route; replies return on the same connection
//
//	Send ──► queue ─► writer ═══ control, bulk ═══► reader ──► Handler.Receive
//	Start ─► queue ─► writer ═══════ call ════════► reader ──► Handler.Call
//	  ▲                                                              │
//	  └── pending calls ◄─ reader ◄═══ same connection ═══ writer ◄──┘
//
// Both ends ping, so a peer that vanished without a word is found within Config.Silence. A connection on which
// anything is wrong (checksum, length, a message that does not parse) is closed and dialled again.
package transport
