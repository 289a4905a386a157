package sim

import (
	"fmt"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/vfs"
)

// The fault "astray": a replica carries out an entry otherwise than the others, as one does whose memory or processor fails.
// It opens a shard that nobody asked for. So its state is wrong, in images and sums too, and no client is told anything
// wrong by it; what a client would see of other errors, until they are found, nobody could take back.
//
// The cluster promises to find it, and to replace the state by that of a replica that is right. Until then another one may be filled
// from it; if it is so many that they are the majority, the wrong state is the right one. All must be equal at the end.

// strayed is the shard that only a replica which went astray has.
func strayed(id cmq.SetID) cmq.ShardID { return cmq.QueueID(900 + int(id)).Shard(0) }

func (f *fault) astray() {
	n, id := f.node(), cmq.SetID(1+f.rng.IntN(f.w.knobs.sets))
	f.hurt(n, false, func() bool {
		f.say("node %d set %d", n.id, id)
		n.replica(id).stray = true
		return true
	})
}

// bend gives what the replica carries out in place of the entry, if it is to go astray now. An entry with bodies is left as
// it is, for whatever is put into it must not change where they lie.
func (p *replica) bend(data []byte) []byte {
	if !p.stray || len(data) == 0 {
		return data
	}
	batch, err := command.Parse(data)
	if err != nil || batch.Slots > 0 {
		return data
	}
	b := command.NewBuilder()
	b.Reset(batch.Proposer, batch.Number)
	it, op := batch.Ops(), command.Op{}
	for it.Next(&op) {
		b.Add(op)
	}
	b.Add(command.Op{Kind: command.Open, Shard: strayed(p.set), Version: 1})
	p.stray = false
	p.node.w.stats.hit("replicas gone astray")
	return b.Finish(batch.Time)
}

// astray tells whether the state is that of a replica which went astray.
func (p *replica) astray() bool {
	_, _, ok := p.m.Broker().Attributes(strayed(p.set))
	return ok
}

// watchFence checks that a replica takes no part as long as its disk says that its state is wrong. As soon as the disk says so,
// half of the time the process is killed: the fence must stand when it starts again. It reports whether the node is still up.
func (p *replica) watchFence() bool {
	n, marked := p.node, p.st.Log().WrongState()
	if marked && !p.r.Status(n.now()).Repairing {
		n.w.violation("fence", "set %d node %d takes part although its disk says that its state is wrong", p.set, n.id)
	}
	first := marked && !p.fenced
	p.fenced = marked
	if !first {
		return true
	}
	n.w.stats.hit("replicas fenced")
	if n.w.phase != loading || newStream(n.w.cfg.Seed, fmt.Sprint("fence ", n.id, n.incarnation)).chance(50) {
		return true
	}
	n.w.stats.hit("fenced replicas killed")
	n.kill(vfs.KillProcess, "killed behind its fence")
	return false
}

// lostWay says of which replicas the states are wrong; nothing if those of a set are all alike.
func (w *world) lostWay() string {
	for id := cmq.SetID(1); id <= cmq.SetID(w.knobs.sets); id++ {
		var wrong []cmq.NodeID
		for _, n := range w.nodes {
			if n.up && len(n.replicas) >= int(id) && n.replica(id).astray() {
				wrong = append(wrong, n.id)
			}
		}
		if len(wrong) > 0 && len(wrong) < len(w.nodes) {
			return fmt.Sprintf("set %d: the states of nodes %v are wrong", id, wrong)
		}
	}
	return ""
}
