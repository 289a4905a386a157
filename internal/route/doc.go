// Package route brings an action on a queue or topic to the shard, the set and the node that can carry it out. It is
// what the doors call: Router has the methods of access.Backend and access.Starter.
//
//	door ─► Router ─► Table: queue ─► shard ─► set
//	           │
//	           └─► Do: who leads the set? ─┬─► Local: this node's replica
//	                                       └─► Remote ═══► Serve on the other node ─► its Local
//
// Clients never see "not the leader": Do follows hints and waits out an election. What may have been carried
// out is repeated only if a second time does no harm, see repeatable.
//
// The table is this node's copy of the metadata and may be behind. So a queue it does not have is looked for
// again after Sync, and a shard that a set does not have is opened again if the synchronised table lists it.
// The reverse does not happen: a queue or shard missing in the metadata is never deleted because of that.
//
// A subscription has one shard, on the set of its topic. It is opened before Subscribe answers, because a publish goes to
// the subscriptions its set knows.
//
// Router holds no state but guesses about leaders. It knows neither raft nor the engine; node plugs them in.
package route
