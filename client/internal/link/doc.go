// Package link keeps connections to the TCP port of CMQ: it dials, authenticates, matches answers to requests, notices
// dead connections and makes new ones. What the requests mean is not its business; package client knows that.
//
// A Conn is one authorized connection with any number of calls under way. It costs two goroutines, whatever goes over
// it, and a call costs none, no timer and no context:
//
//	callers ──append frame──► out ──writer: one Write for all that is there──► socket
//	callers ◄──done── calls[seqno] ◄──────────────── reader ◄──────────────── socket
//
// A caller waits for its answer (Do), or leaves a function for it that the reader calls (Start).
//
// A Pool has the connections to all addresses. It gives the first address of a list that answers, makes connections
// again after they broke, and waits longer between attempts that fail.
package link
