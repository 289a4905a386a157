package doctor

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/inspect"
	"github.com/opencmq/cmq/internal/store/segment"
)

// means says what follows from each kind of problem.
var means = map[inspect.Kind]string{
	inspect.Damaged:    "Bytes that were confirmed to be on the disk are not what was written. The disk may be failing.",
	inspect.Missing:    "Somebody removed the file, or the disk or a copy lost it.",
	inspect.Foreign:    "It was put here from another node, set or cluster. A node that starts here refuses the directory and changes nothing.",
	inspect.Newer:      "A newer version of cmq wrote it. This one refuses the directory and changes nothing.",
	inspect.Unfinished: "The node was stopped while it made the replica for the first time, or the directory was emptied.",
	inspect.Unreadable: "The system does not let it be read, so nothing is known of it.",
	inspect.Wrong:      "Replicas that carry out the same entries end alike, so memory or processor of this node failed, or cmq has a bug. It takes no part until it has the state of the others.",
	inspect.Torn:       "A write was cut off by a crash. It had confirmed nothing.",
}

// replica is what decides on what can be done about its damage.
type replica struct {
	voters  []cmq.NodeID // of the set; none: not known
	refused error        // why the node would not start with it
	names   *inspect.Names
}

// judgeRefusal tells what keeps the node from starting, if the set has no other replica: with others, the problem itself says it.
func (r *replica) judgeRefusal() []Finding {
	var damage *segment.DamageError
	if len(r.voters) != 1 || !errors.As(r.refused, &damage) {
		return nil
	}
	return []Finding{{Error, place(damage.File, damage.Offset), damage.Why, "The node refuses to start with this and changes nothing: it would lose what it has confirmed.", sentence(damage.Fix)}}
}

func place(file string, offset int64) string {
	if offset == 0 {
		return file
	}
	return fmt.Sprintf("%s at offset %d", file, offset)
}

// judge makes a finding of what was seen in a file of the replica.
func (r *replica) judge(p inspect.Problem) Finding {
	f := Finding{Level: Error, Subject: place(p.File, p.Offset), What: p.What, Means: means[p.Kind], Do: p.Fix}
	switch {
	case p.Kind == inspect.Torn:
		f.Level = Warning
	case p.Alone:
		f.Level, f.Do = Warning, "Nothing but to start the node: "+p.Fix+". Check the disk (dmesg, smartctl)."
	case p.Kind == inspect.Unfinished:
		f.Level, f.Do = Warning, "Nothing, if the node never held data of this set; else restore the directory, or let the other replicas fill it."
	case p.Kind == inspect.Unreadable:
		f.Do = "Run cmq doctor as the user that runs the node; look into the system's log for errors of the disk."
	case p.Positions != nil && len(r.voters) == 1:
		r.judgeReferences(&f, p)
	case p.Kind == inspect.Wrong && len(r.voters) > 1:
		f.Do = "Start the node: it takes the state of the others. Test the memory of this node (memtest86+, edac-util), and report it with the node's log."
	case p.Kind == inspect.Damaged || p.Kind == inspect.Missing || p.Kind == inspect.Wrong:
		f.Do = r.heal()
	}
	f.Do = sentence(f.Do)
	return f
}

// judgeReferences says what follows from references that the only replica of a set has lost.
func (r *replica) judgeReferences(f *Finding, p inspect.Problem) {
	where, queue := r.positions(p.Positions)
	f.What += "; it led to " + where
	name := filepath.Base(p.File)
	f.Do = fmt.Sprintf("Stop the node and put %s back from a backup of this directory: a file of references is never changed after it was written, so any copy of it is the right one, and the node "+
		"checks that. ", name)
	if p.Whole {
		f.Means = "Nothing says any more where these messages are stored. The node starts and waits for the file; whoever receives one of them gets an error, and it is tried " +
			"again when its lock ends. They are not lost yet: what the messages are, in files of segments and of the archive, is kept as long as their queue has them."
		f.Do += fmt.Sprintf("Without a backup make an empty file %s.lost beside it: then these messages of %s are deleted when they would be received, and it goes on behind them.", name, queue)
	} else {
		f.Means = "Nothing says any more where these messages are stored. Each is lost as soon as the node would deliver it: it is deleted then, counted as quarantined, and the queue goes on behind it. " +
			"Until then what the messages are is kept."
		f.Do += fmt.Sprintf("Without a backup start it: %s goes on without them.", queue)
	}
	f.Do += " Check the disk (dmesg, smartctl)."
}

// positions names positions of a queue, and the queue.
func (r *replica) positions(p *inspect.Positions) (where, queue string) {
	queue = "queue " + r.names.Of(p.Shard)
	hi := "the end"
	if p.Hi != math.MaxUint64 {
		hi = fmt.Sprint(p.Hi - 1)
	}
	switch {
	case p.Shard != p.LastShard:
		if p.LastShard != math.MaxUint64 {
			return fmt.Sprintf("delayed messages of the queues from %s to %s", r.names.Of(p.Shard), r.names.Of(p.LastShard)), "these queues"
		}
		return fmt.Sprintf("delayed messages of the queues from %s on", r.names.Of(p.Shard)), "these queues"
	case p.Lane != p.LastLane:
		return fmt.Sprintf("delayed messages of %s that fall due from %s to %s", queue, due(p.Lane), due(p.LastLane)), queue
	case p.Lane != 0:
		return fmt.Sprintf("positions %d to %s of the messages of %s that fall due at %s", p.Lo, hi, queue, due(p.Lane)), queue
	}
	return fmt.Sprintf("positions %d to %s of %s", p.Lo, hi, queue), queue
}

func due(lane int64) string { return time.UnixMilli(lane).UTC().Format(time.RFC3339) }

// sentence begins with a capital and ends with a full stop.
func sentence(text string) string {
	if text == "" || strings.HasSuffix(text, ".") {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// heal says what to do about what is lost.
func (r *replica) heal() string {
	switch len(r.voters) {
	case 0:
		return "Start the node: what the other replicas of the set have, it takes from them. If this is the only replica, restore the directory from a backup instead. Check the disk (dmesg, smartctl)."
	case 1:
		if r.refused == nil {
			return "Start the node: it does without the messages that are damaged, and deletes them when they would be received. This is the only replica of the set, so only a backup can give them back. Check the disk (dmesg, smartctl)."
		}
		return "This is the only replica of the set, so nobody can give it back: restore the directory from a backup. Check the disk (dmesg, smartctl)."
	}
	return "Start the node: it takes what is lost from the other replicas. If it happens again, move the node to another disk."
}
