// Package agent delivers messages of topics to endpoints in a network that the cluster does not reach, from a process in
// there that only dials out (cmq agent).
//
// A subscription that names an agent has its messages in a replicated shard like any other. Elsewhere the leader of the
// shard delivers them; here the agent does, with the same package push, which asks for four things: receive, delete, give
// back, and which subscriptions there are. There they are calls of the set's leader, here requests over the HTTP door of any
// node, which brings them to the leader.
//
//	network of the cluster                 :   closed network
//	shard ◄── leader ◄── door of a node ◄──────── Agent.do ◄── push ──► endpoint
//	                        │              :          ▲
//	                        └─ list, every 3 s ───────┘ lanes: one for each subscription
//
// So who tries when and how often, what a failing endpoint costs and what is in order is the same as elsewhere, and what
// has to happen is in the cluster's log. An agent that dies leaves its messages locked for 30 s at most; another one, or the
// same after a restart, goes on. It keeps nothing on disk.
//
// Several agents of one name share the work. Each is told how many they are, and takes its part of a subscription's rate and
// concurrency.
package agent
