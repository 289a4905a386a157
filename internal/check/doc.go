// Package check judges a history: everything that the clients of a cluster asked and what they were answered. It
// trusts nothing but the history, so the same rules serve the simulator and a live cluster.
//
// A History is a list of operations, each with the time of its call and of its return by one clock, and one of three
// outcomes: OK (it happened), Fail (it certainly did not happen and never will), Info (nobody knows). Check looks for
// violations of the rules I1 to I24 of the reliability notes that can be decided from outside:
//
//	I1  no confirmed loss          I2  no invention, no damage     I3  a failed send never appears
//	I4  ids are unique and grow    I5  a lock excludes others      I6  an old handle does nothing
//	I7  a delete is final          I8  dequeue counts rise         I9  nothing is in two places
//	I10 a delay is never short     I11 quiet means quiet           I12 a rewind brings back what it should
//	I14 counts are exact at rest   I24 retention is kept, neither short nor long
//
// and of these rules of transactions:
//
//	T1 nothing undecided is delivered     T2 nothing rolled back is delivered, nothing decided twice
//	T3 nothing undecided is lost
//
// and of producer sessions:
//
//	S1 a send is stored once, however often it is put
//
// and of topics (topics.go):
//
//	P1 a publish that a subscription wants is not refused     P2 a publish that none wants is
//
// and of deliveries to endpoints (push.go):
//
//	D1 what counts as delivered was delivered     D2 the endpoint is told the right try     D3 the schedule is kept
//	D4 what came of a try is written down         D5 order is kept where it was asked for
//
// A history that ends with a drain (PhaseDrain: every queue is received and deleted until it is empty) is judged
// about loss too; without one, only about what was seen. Everything is linear in the history but for sorting.
package check
