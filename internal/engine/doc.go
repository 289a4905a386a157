// Package engine is the state machine of a data set as the raft driver sees it: it turns requests into entries of
// the log on the leader, and committed entries into replies and references to bodies on whoever is asked.
//
// What a command does to a queue is decided by core/broker alone; this package adds what is local to one replica:
// which requests wait for which entry, which long polls are parked, where the messages are (store/reflog), and the
// leader's housekeeping (retention, dead letters) that it puts into the log as commands.
//
//	Submit ──► queue ──► Cut ──► raft ──► Apply ──► broker ──► Result ──► Fill (bodies)
//	   │         ▲
//	   ▼         │ a send, a lock end or a due second makes something ready
//	 parked polls
//
// The loop never waits for a disk. A reply leaves it with positions, and whoever wants it reads the messages; send times
// that are not in memory are read elsewhere, and what needs them is put aside until then. An image is begun in no time,
// encoded between entries, and brought to the disk by an ImageJob.
//
// A message that cannot be read here comes from another replica, and if no replica has it, it is deleted through the log
// and reported: see Mend.
//
// Queries about prepared messages go the way of messages: whoever can pass them on to producers parks a call, and a query is
// put into the log when it is due and somebody waits for it; see asks.
//
// Nothing is proposed for a poll that would come back empty. A parked poll is queued right behind the send that feeds
// it, so both travel in one entry.
package engine
