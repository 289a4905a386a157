// Package set replicates one state machine on the nodes of one set.
//
// Replica is the raft driver without goroutines, clock, disk or network of its own: messages, ticks and
// finished disk writes go in, messages and disk jobs come out. The simulator drives it directly; Host gives it
// goroutines, timers and connections in production. What is replicated is known only through Machine: the
// queues of a data set (package engine) or the metadata (package controller).
//
//	Step, Tick, Read, ...        Ready
//	       │                       │
//	       ▼                       ▼
//	  ┌─────────┐  committed  ┌─────────┐
//	  │ RawNode │ ──────────► │ Machine │ ──► replies
//	  └─────────┘ ◄────────── └─────────┘
//	    │     │       Cut
//	    │     └──► Envelope: messages to the other replicas
//	    └────────► Job: one pwritev and one fdatasync for everything that waits; then Done
package set
