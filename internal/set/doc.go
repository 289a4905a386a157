// Package set replicates one state machine on the nodes of one set.
//
// Replica is the raft driver without goroutines, clock, disk or network of its own: messages, ticks and
// finished disk jobs go in, messages and disk jobs come out. The simulator drives it directly; Host gives it
// goroutines, timers and connections in production. What is replicated is known only through Machine: the
// queues of a data set (package engine) or the metadata (package controller).
//
//	Step, Tick, Read, ...        Ready
//	       │                       │
//	       ▼                       ▼
//	  ┌─────────┐  committed  ┌─────────┐
//	  │ RawNode │ ──────────► │ Machine │ ──► replies
//	  └─────────┘ ◄────────── └─────────┘
//	    │     │       Cut          │
//	    │     │                    └──► image, slice by slice ──► Job: files, in the background
//	    │     └──► Envelope: messages to the other replicas
//	    └────────► Job: one pwritev and one fdatasync for everything that waits; then Done
//
// Beside raft, replicas ask each other for what one of them lacks (asking.go, answering.go): a replica that is too far behind
// is filled from an image (pulling.go), one that has lost what it promised is repaired before it takes part again (repair.go),
// files that rot are healed (scrub.go), states are compared (digest.go). DESIGN.md says why nothing confirmed is lost by it.
package set
