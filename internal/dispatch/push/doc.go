// Package push delivers what was published to the endpoints of subscriptions, from the node that leads their set.
//
// A subscription's shard is a queue, and push is its only consumer: it receives, delivers and deletes. What has to
// happen is always in the replicated state and found again from there.
//
//	shard of the subscription                 courier (one for each subscription)            target
//	receive, locked for 30 s  ──────────────► a goroutine for each try ────────────────────► Deliver
//	delete                    ◄────────────── it was taken                            ◄───── nil
//	relock: the lock ends when the next try is due; the count of receives is the count of tries ◄── *Failure
//	delete, or the dead-letter queue of the shard's policy ◄── the last try has failed
//
// So a change of leader forgets neither what is to be delivered, nor how often it was tried, nor when the next try is due.
// A try that is under way goes on at the old leader, and its outcome is told to the new one. Only a message that an
// endpoint has taken from a node which then failed before it could say so is delivered again, once its lock ends.
//
// All that is decided, package course decides, one Course for each courier; here are the goroutines, the clock and the calls.
//
// # What an endpoint can do to others
//
// Nothing is shared between couriers but the processor, and the line before a host if they deliver to the same one: no
// queue that can fill, no pool of workers. Each has a window of tries at once, which begins at one and grows with each
// success (slow start), and may have a rate. After failures in a row its circuit is open: messages that were not tried
// yet stay where they are, so that they use up no tries, and only those are tried again whose time by the schedule it
// is. These are the probes; when they are rare, a new message is one now and then. No retry is late or left out because
// of the circuit, and a message whose schedule has not begun can only go with the retention of its topic.
package push
