// Package queue is the state machine of one shard: what can be received, what is locked and until when, what
// is dead, what can be rewound. It knows positions and counts, never bodies, and neither clock nor disk:
// broker feeds it operations in log order, each with the cluster time of its batch.
//
// A message is a position in a lane. Its state follows from a few numbers per lane and three small tables:
//
//	        low      floor        cursor            tail
//	lane  ───┼─────────┼─────────────┼────────────────┼───
//	  gone   │ deleted │ deleted, can│ can be received│ not yet
//	         │ for good│ be rewound  │ (or delayed)   │ sent
//
// except for the positions that are in flight (locked), returned (lock ended) or dead (waiting for the
// dead-letter queue), which are listed one by one or in runs. So the state is as large as what is unfinished,
// never as large as the backlog. DESIGN.md tells why.
//
// Locks end by themselves: before the first operation of a batch Settle carries out what ended up to its time, in the
// order of (deadline, handle), or the first thousands of it. Reading methods take a time too and answer as if all had been
// settled.
package queue
