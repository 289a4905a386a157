// Package controller runs the metadata of the cluster: set 0, whose state machine is core/meta.
//
//	Meta ──Do──► leader of set 0: Machine.Submit ──► Cut ──► raft ──► Apply ──► meta.State ──► reply
//	  ▲                                                                  │
//	  └────────── Board: newest meta.Table, on every replica ◄───────────┘
//	                │
//	                └──► Reconciler (on the leader's node): tells shards' sets what was decided
//
// Machine is the leader's side and the replica's side of set 0; package set drives it. Board publishes what
// Machine has applied to the rest of the node. Meta is the service other packages call, on any node: it sends
// commands to the leader and waits until this node's table shows them. Reconciler carries out the tasks that
// nobody else has carried out, for example because a node stopped between the two steps of a CreateQueue.
//
// The controller is never on the way of a message: when set 0 has no leader, queues go on working.
package controller
