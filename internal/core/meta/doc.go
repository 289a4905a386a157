// Package meta is the state machine which the controller replicates: the nodes, the sets and their replicas,
// the queues and where their shards live, the topics and their subscriptions, the access keys, and the tasks that are
// still to be carried out on shards. It holds every rule that needs the whole picture: names are unique, limits of
// queues, topics and subscriptions, dead-letter queues do not nest.
//
// It is a function. State.Apply takes a Command and the time of its batch, and changes the state or refuses
// with an entry of the API's catalogue; it knows no clock, no disk and no network. The leader puts commands
// into a Batch, the data of one raft entry; all replicas apply it and end equal (Digest).
//
// State.Table gives an immutable snapshot in O(1), because all indexes are persistent trees. A Table is what
// the rest of the node reads, from any goroutine.
//
// A shard is opened, changed and dropped in another set than the one in which that was decided. So each such
// decision leaves a Task in the state, which is there until Done reports that the shard's set has it. A shard
// is dropped only by a task that names it, and only DeleteQueue and Unsubscribe make such tasks: that something is
// missing from the metadata is never a reason to delete data.
//
// A topic is on one set and has no shard there. Each of its subscriptions has one, on the same set, which is opened,
// changed and dropped like that of a queue.
//
// Package controller feeds the State and carries out the tasks.
package meta
