// Package tcpapi is the TCP door: CMQ's binary protocol as its published Java client speaks it (docs/protocol.md). It
// parses frames, verifies who a connection belongs to, asks the Backend and writes the answers; it decides nothing about
// queues.
//
//	socket ──► reader: frame ──► request ──► Backend.Start… ─ ─ ─► its answer ──► outbox ──► writer ──► socket
//	             one goroutine a connection        any goroutine of the Backend's         one a connection
//
// Requests of one connection are carried out side by side and answered in any order; an answer repeats the number of its
// request. No request has a goroutine of its own: a long poll that waits is a small record on its connection and a place
// with the queue's leader.
//
// Nothing waits for a client. The reader stops reading while too much of its connection is unanswered or unread; a
// connection that does not read its answers, does not say who it is, or says nothing for long is closed. Messages whose
// answer could not be written, because the client has gone, are released.
//
// What a frame costs when it is wrong: one that is no frame, or whose envelope does not parse, ends the connection,
// because nobody can tell where the next one begins or which request to answer. Everything else is answered with a
// result.
//
// The files: frame.go (bytes to frames), field.go, envelope.go and body.go (frames to values, without copies), answer.go
// (values to frames), outbox.go (frames to the socket), conn.go and request.go (one connection and what is under way on
// it), door.go and census.go (all connections), and one file per family of commands.
package tcpapi
