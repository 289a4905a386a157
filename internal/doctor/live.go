package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/opencmq/cmq/internal/access/adminapi"
	"github.com/opencmq/cmq/internal/cmq"
)

// What is told of a running node, and from when on.
const (
	// slowSync is far above what any healthy disk takes for one small synced write: 1 to 5 ms for an SSD, 10 to 20 for a hard disk.
	slowSync = 50 * time.Millisecond
	// stalled is how long one write may take before a leader hands over.
	stalled = time.Second
	// clockOff is how far clocks may be apart: time synchronization keeps them within some milliseconds, and signatures are
	// refused only after minutes.
	clockOff = 500 * time.Millisecond
	// silent is how long a leader may not have heard a replica that is well: it answers every heartbeat.
	silent = 5 * time.Second
	// behind is how many entries a replica may lag under load.
	behind = 10_000
	// fewLeft is which part of the descriptors should be left, as a divisor.
	fewLeft = 5
)

// Health is what /livez or /readyz said, asked for all its checks.
type Health struct {
	Failing []string // "name why", in order
	Passing int
}

// ParseHealth reads the answer of ?verbose.
func ParseHealth(text string) (h Health) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "[!] "); ok {
			h.Failing = append(h.Failing, rest)
		}
		if strings.HasPrefix(line, "[+] ") {
			h.Passing++
		}
	}
	return h
}

// Judge says what is wrong with a running node, by what it tells.
func Judge(live, ready Health, s *adminapi.State) (list []Finding) {
	node := fmt.Sprintf("node %d", s.Node)
	for _, f := range live.Failing {
		list = append(list, Finding{Error, node, "/livez: " + f, "A part of the process does not work any more, and will not by itself.",
			"Restart the node; if it happens again, keep its log and a goroutine dump (/debug/pprof/goroutine?debug=2) and report it."})
	}
	list = append(list, judgeReady(node, ready, s)...)
	list = append(list, judgeProcess(node, &s.Process)...)
	list = append(list, judgeDisk(node, &s.Disk)...)
	for i := range s.Sets {
		list = append(list, judgeSet(fmt.Sprintf("%s, set %d", node, s.Sets[i].Set), s, &s.Sets[i])...)
	}
	return append(list, judgeClocks(node, s)...)
}

// judgeReady says what of /readyz the state does not say better.
func judgeReady(node string, ready Health, s *adminapi.State) (list []Finding) {
	if s.Stopping {
		list = append(list, Finding{Warning, node, "the node is stopping", "It takes no new requests, and hands its sets over.", "Wait until it has stopped, or start it again."})
	}
	for _, f := range ready.Failing {
		name, _, _ := strings.Cut(f, " ")
		switch {
		case name == "draining", strings.HasSuffix(name, "-leader"):
		case name == "metadata":
			list = append(list, Finding{Error, node, "/readyz: " + f, "The node does not know where queues are, so it answers no request.",
				"Check that most of the nodes in cluster.nodes run and reach each other on their peer addresses."})
		default:
			list = append(list, Finding{Error, node, "/readyz: " + f, "Clients should not be sent here.", "See the node's log."})
		}
	}
	return list
}

func judgeProcess(node string, p *adminapi.Process) (list []Finding) {
	if p.Limit == 0 {
		return nil
	}
	do := "Raise the limit of open files of the process (ulimit -n, LimitNOFILE= in its unit) and restart it."
	switch {
	case p.Descriptors > 0 && uint64(p.Descriptors) > p.Limit-p.Limit/fewLeft:
		list = append(list, Finding{Error, node, fmt.Sprintf("%d of %d descriptors are in use", p.Descriptors, p.Limit),
			"Without a free one no connection is accepted and no file can be made.", do})
	case p.Need > p.Limit:
		list = append(list, Finding{Warning, node, fmt.Sprintf("up to %d descriptors may be needed, %d are allowed", p.Need, p.Limit),
			"When they are used up, connections are refused and files cannot be made.", do})
	}
	return list
}

func judgeDisk(node string, d *adminapi.Disk) []Finding {
	subject := node + ", " + d.Dir
	if d.Error != "" {
		return []Finding{{Error, subject, "the free space cannot be found out: " + d.Error, "A full disk would not be noticed.", "Look whether the file system is mounted and well."}}
	}
	return judgeSpace(subject, room{d.Total, d.Free, d.Soft, d.Hard, d.Inodes, d.FreeInodes})
}

// judgeSet says what is wrong with one replica, and with its set as far as this replica knows.
func judgeSet(subject string, s *adminapi.State, t *adminapi.Set) (list []Finding) {
	add := func(level Level, what, means, do string) {
		list = append(list, Finding{level, subject, what, means, do})
	}
	switch {
	case t.Hangs:
		add(Error, "the loop of the replica does not turn", "Its requests wait.", "Look at the disk; if that is well, restart the node.")
	case t.Repair != nil:
		add(Error, "the replica is in repair: "+lacks(t.Repair), "It lost a part of what it had acknowledged, so it neither votes nor acknowledges until the others have given that back.",
			"Wait; it goes on by itself when most of the others run. Do not stop another node of the set meanwhile. Check the disk (dmesg, smartctl).")
	case t.Leader == 0:
		add(Error, "the set has no leader", "Its queues answer no requests.",
			fmt.Sprintf("Start the nodes with its replicas (%s): more than half of them must run and reach each other on their peer addresses.", idList(t.Voters)))
	case t.Leader == s.Node && !t.Leading:
		add(Warning, "the replica was elected and does not serve yet", "The queues of the set wait for it.", "Wait some seconds; if it stays so, the disk or most of the other replicas do not answer.")
	case t.Fetching:
		add(Warning, "the replica is being filled from another one", "The set has one replica less until that is done.", "Wait. Do not stop another node of the set meanwhile.")
	case t.Committed > t.Applied+behind:
		add(Warning, fmt.Sprintf("%d entries are agreed on and not carried out here yet", t.Committed-t.Applied), "The replica is slower than the load; it could not lead now.",
			"Look at the processors and the disk of this node.")
	}
	if t.Full > 0 {
		what := [...]string{"", "sends are refused: a disk of the set is below its soft mark", "sends and receives are refused: a disk of the set is below its hard mark"}[min(t.Full, 2)]
		add(Error, what, "The fullest disk of all replicas counts.", fullest(t))
	}
	for _, u := range t.Undecided {
		list = append(list, Finding{Warning, subject + ", queue " + u.Queue,
			fmt.Sprintf("%s undecided: prepared in transactions, and the producers did not answer", count(int(u.Messages), "message is", "messages are")),
			"They stay invisible, and count towards the queue's limit, until somebody decides.",
			fmt.Sprintf("List them (cmq queue undecided %s), find out from whoever runs the producers what became of them, and decide (cmq queue decide).", u.Queue)})
	}
	list = append(list, judgeData(subject, t)...)
	list = append(list, judgeSpeed(subject, t)...)
	return append(list, judgeReplicas(subject, t)...)
}

// lacks says in words what a replica in repair lacks.
func lacks(r *adminapi.Repair) string {
	var parts []string
	if r.Lost > 0 {
		parts = append(parts, count(int(r.Lost), "entry cannot be read", "entries cannot be read"))
	}
	if r.Image {
		parts = append(parts, "no image of the state can be read")
	}
	if r.State {
		parts = append(parts, "the state is not that of most replicas")
	}
	if r.Vote {
		parts = append(parts, "term and vote are in doubt")
	}
	if r.End {
		parts = append(parts, "the log may have lost its end")
	}
	if len(parts) == 0 {
		return "it is looking what is lost"
	}
	return strings.Join(parts, ", ")
}

// fullest says which disk is full, as far as is known.
func fullest(t *adminapi.Set) string {
	var ids []cmq.NodeID
	for _, r := range t.Replicas {
		if r.Full > 0 {
			ids = append(ids, r.Node)
		}
	}
	if len(ids) == 0 {
		return "Make room on the disk of this node, or find the node with the full disk: cmq doctor on each."
	}
	return fmt.Sprintf("Make room on the disk of node %s.", idList(ids))
}

// judgeData says what was found of damage.
func judgeData(subject string, t *adminapi.Set) (list []Finding) {
	for _, d := range t.Damage {
		where := fmt.Sprintf("%s, %s", subject, d.File)
		if d.Offset != 0 {
			where = fmt.Sprintf("%s at offset %d", where, d.Offset)
		}
		list = append(list, Finding{Error, where, fmt.Sprintf("damaged %s file: %s", d.Kind, d.Why), means["damaged"],
			healLive(t.Voters)})
	}
	if t.Quarantined > 0 {
		list = append(list, Finding{Error, subject, fmt.Sprintf("%s deleted since the start because no replica could give %s", count(int(t.Quarantined), "message was", "messages were"), itThem(t.Quarantined)),
			"These messages are lost.", "The node's log has queue and id of each. Check the disks of all nodes of the set."})
	}
	if t.WrongStates > 0 {
		list = append(list, Finding{Error, subject, fmt.Sprintf("since the start the state was not that of most replicas %s, and was replaced by theirs", count(int(t.WrongStates), "time", "times")),
			"Nothing is lost. Replicas that carry out the same entries end alike, so memory or processor of this node are failing, or cmq has a bug; what clients were told by this node as leader before may have been wrong.",
			"Keep the node's log and report it; test the memory of this node (memtest86+, edac-util)."})
	}
	switch {
	case t.Scrub.Damaged > 0 && len(t.Damage) == 0 && len(t.Voters) == 1:
		list = append(list, Finding{Error, subject, fmt.Sprintf("since the start %d damaged places were found, and this is the only replica of the set", t.Scrub.Damaged),
			"What was damaged of messages, or of references that led to them, is lost, and a message is deleted when it would be received; only if a whole file is gone it waits for that.",
			"Stop the node when that suits and run cmq doctor on its directory: it names files and queues and says what can be done. Check the disk (dmesg, smartctl)."})
	case t.Mended > 0 || t.Scrub.Damaged > 0 && len(t.Damage) == 0:
		list = append(list, Finding{Warning, subject, fmt.Sprintf("since the start %d damaged places were found, and %s fetched from another replica", t.Scrub.Damaged, count(int(t.Mended), "message was", "messages were")),
			"Nothing is lost, but this disk has changed what was written.", "Check the disk (dmesg, smartctl); if there are more tomorrow, replace it."})
	}
	return list
}

func itThem(n uint64) string {
	if n == 1 {
		return "it"
	}
	return "them"
}

// healLive says what becomes of damage on a running node.
func healLive(voters []cmq.NodeID) string {
	if len(voters) == 1 {
		return "This is the only replica of the set: it does without the messages that are damaged, and deletes them when they would be received. Check the disk (dmesg, smartctl)."
	}
	return "The node heals it from the other replicas; run this again in some minutes. If it stays, see the node's log. Check the disk (dmesg, smartctl)."
}

// judgeSpeed says whether the disk is slow.
func judgeSpeed(subject string, t *adminapi.Set) (list []Finding) {
	do := "Look what else uses the disk (iostat -x 1), and whether it is failing (dmesg, smartctl). A leader on a slow disk hands over by itself if others are faster."
	switch {
	case t.Writing > stalled:
		list = append(list, Finding{Error, subject, fmt.Sprintf("one write to the disk has taken %s so far", t.Writing.Round(time.Millisecond)),
			"The disk does not answer: nothing can be confirmed here.", do})
	case t.Sync > slowSync:
		list = append(list, Finding{Warning, subject, fmt.Sprintf("a synced write takes %s (median of the latest)", t.Sync.Round(time.Millisecond)),
			"No confirm that needs this disk is faster than that.", do})
	}
	return list
}

// judgeReplicas says which of the other replicas do not keep up, as the leader knows.
func judgeReplicas(subject string, t *adminapi.Set) (list []Finding) {
	if !t.Leading {
		return nil
	}
	for _, r := range t.Replicas {
		if r.Heard == nil || time.Duration(*r.Heard)*time.Millisecond > silent {
			list = append(list, Finding{Error, subject, fmt.Sprintf("the replica on node %d does not answer", r.Node),
				fmt.Sprintf("The set goes on with the others of its %d replicas; one more away, and it may stop.", len(t.Voters)),
				fmt.Sprintf("Start node %d, or look why it cannot be reached on its peer address.", r.Node)})
			continue
		}
		if lag := max(t.Last, r.Match) - r.Match; lag > behind {
			list = append(list, Finding{Warning, subject, fmt.Sprintf("the replica on node %d is %d entries behind (%s)", r.Node, lag, r.State),
				"Until it has caught up the set is as if it had one replica less.",
				fmt.Sprintf("Wait, if the number gets smaller. Else look at disk, processors and network of node %d.", r.Node)})
		}
	}
	return list
}

// judgeClocks compares clocks: the node's with cluster time, and with those of the others.
func judgeClocks(node string, s *adminapi.State) (list []Finding) {
	do := "Look whether time synchronization runs (chronyc tracking, timedatectl) on both."
	far := func(ms *int64) bool { return ms != nil && time.Duration(max(*ms, -*ms))*time.Millisecond > clockOff }
	said := map[cmq.NodeID]bool{}
	for i := range s.Sets {
		for _, r := range s.Sets[i].Replicas {
			if far(r.ClockOffset) && !said[r.Node] && r.Heard != nil && time.Duration(*r.Heard)*time.Millisecond <= silent {
				said[r.Node] = true
				list = append(list, Finding{Warning, node, fmt.Sprintf("the clock of node %d is %s", r.Node, offset(*r.ClockOffset, "this node's")),
					"Locks and delays go by cluster time, which follows most of the clocks and stays right; send times and signatures do not.", do})
			}
		}
	}
	if len(said) > 0 {
		return list
	}
	for i := range s.Sets {
		if t := &s.Sets[i]; far(t.ClockOffset) {
			return append(list, Finding{Warning, fmt.Sprintf("%s, set %d", node, t.Set), fmt.Sprintf("cluster time is %s", offset(*t.ClockOffset, "this node's clock")),
				"Cluster time never goes back: after a clock that was ahead it waits, and delays and locks end late by as much until the clocks have caught up.", do})
		}
	}
	return list
}

func offset(ms int64, of string) string {
	d := time.Duration(ms) * time.Millisecond
	if d < 0 {
		return fmt.Sprintf("%s behind %s", -d, of)
	}
	return fmt.Sprintf("%s ahead of %s", d, of)
}

func idList(ids []cmq.NodeID) string {
	var parts []string
	for _, id := range ids {
		parts = append(parts, fmt.Sprint(id))
	}
	return strings.Join(parts, ", ")
}
