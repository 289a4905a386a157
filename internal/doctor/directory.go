package doctor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/inspect"
	"github.com/opencmq/cmq/internal/vfs"
)

// Directory checks the data directory of a node that does not run, or those of a cluster of cmq dev. marks are those of the node's
// configuration; where they are zero, the node's own defaults count. The error says that nothing could be checked at all.
func Directory(fsys vfs.FS, dir string, marks datadir.Marks) ([]Report, error) {
	nodes, err := inspect.Find(fsys, dir)
	if err != nil {
		return nil, err
	}
	var reports []Report
	for _, n := range nodes {
		c := &checkup{fs: fsys, node: n, marks: marks, r: Report{Subject: n.Dir}}
		c.run()
		c.r.finish()
		reports = append(reports, c.r)
	}
	return reports, nil
}

// checkup is one look at a node's directory.
type checkup struct {
	fs    vfs.FS
	node  *inspect.Node
	marks datadir.Marks
	r     Report
}

func (c *checkup) run() {
	n := c.node
	if n.PID != 0 {
		c.r.Unchecked = append(c.r.Unchecked, fmt.Sprintf("process %d is using the directory, so its files change while they are read: ask the node itself with cmq doctor --admin, or stop it first (cmq inspect shows what is there meanwhile)", n.PID))
		return
	}
	c.identity()
	c.space()
	var sets []string
	for _, d := range n.Sets {
		c.set(d)
		sets = append(sets, fmt.Sprint(d.ID))
	}
	c.expected()
	if len(sets) > 0 {
		c.r.Checked = append(c.r.Checked, "checksums of all files, root, chain of segments, images, references and messages of its sets: "+strings.Join(sets, ", "))
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (c *checkup) owner() string {
	if c.node.Unknown != nil {
		return "an unknown node"
	}
	return fmt.Sprintf("node %d of cluster %q", c.node.Identity.Node, c.node.Identity.Cluster)
}

// identity checks whose directory it is, and what lies in it beside a node's files.
func (c *checkup) identity() {
	n := c.node
	if n.Unknown != nil {
		name := filepath.Join(n.Dir, datadir.IdentityName)
		c.r.add(Finding{Error, name, strings.TrimPrefix(n.Unknown.Error(), name+" "),
			"A node does not use a directory that does not say whose it is.",
			fmt.Sprintf("Restore the file from a backup. Its content is {\"cluster\":NAME,\"node\":NUMBER}, as the node's configuration has them; the replicas below say whose they are (cmq inspect %s).", n.Dir)})
	}
	if len(n.Strange) > 0 {
		c.r.add(Finding{Warning, n.Dir, "these are not a node's: " + strings.Join(n.Strange, ", "),
			"The node ignores them.", "Move them away if nobody needs them here."})
	}
	c.r.Checked = append(c.r.Checked, "identity: "+c.owner())
}

// space checks the room on the disk.
func (c *checkup) space() {
	s, err := c.fs.Space(c.node.Dir)
	if err != nil {
		c.r.Unchecked = append(c.r.Unchecked, "free space: "+err.Error())
		return
	}
	m := c.marks.For(s.Total)
	c.r.add(judgeSpace(c.node.Dir, room{s.Total, s.Free, m.Soft, m.Hard, s.Inodes, s.FreeInodes})...)
	c.r.Checked = append(c.r.Checked, fmt.Sprintf("free space (%s of %s)", size(s.Free), size(s.Total)))
}

// set checks one replica.
func (c *checkup) set(d inspect.SetDir) {
	s := c.node.Open(d)
	defer s.Close()
	set := replica{voters: s.Voters, refused: s.Refused()}
	set.names, _ = c.node.Names() // without them queues have numbers; what is wrong with set 0 is said there
	c.r.add(set.judgeRefusal()...)
	for _, p := range s.Problems {
		c.r.add(set.judge(p))
	}
	if err := s.Verify(func(p inspect.Problem) { c.r.add(set.judge(p)) }); err != nil {
		c.r.Unchecked = append(c.r.Unchecked, fmt.Sprintf("%s: %v", d.Dir, err))
	}
	c.state(s, &set)
	c.strangers(s)
}

// state checks that the log can be carried out, and that every message the queues need is somewhere.
func (c *checkup) state(s *inspect.Set, set *replica) {
	err := s.Load()
	if err != nil && len(s.Problems) == 0 {
		c.r.add(Finding{Error, s.Dir, err.Error(), "The state of the queues cannot be brought up to date: a node that starts here stops at this entry.",
			"Use the newest version of cmq that ran here. If it fails too, move the directory away: the other replicas fill the node again."})
	}
	census, err := s.Census()
	if err != nil || census.Partial != nil {
		return // that was said above
	}
	for _, p := range census.Lost {
		c.r.add(set.judge(p))
	}
	if census.Nowhere > 0 {
		c.r.add(Finding{Error, s.Dir, fmt.Sprintf("%s that the queues need %s in no file", count(int(census.Nowhere), "message", "messages"), isAre(census.Nowhere)),
			"They were lost here. Whoever receives one gets it from another replica, if one has it.", set.heal()})
	}
}

func isAre(n uint64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func (c *checkup) strangers(s *inspect.Set) {
	foreign, leftovers, err := s.Strangers()
	if err != nil {
		c.r.Unchecked = append(c.r.Unchecked, fmt.Sprintf("%s: %v", s.Dir, err))
	}
	if len(leftovers) > 0 { // no finding: nobody has to do anything
		c.r.Checked = append(c.r.Checked, fmt.Sprintf("set %d: leftovers of interrupted work, which the node removes or goes on with: %s", s.ID, strings.Join(leftovers, ", ")))
	}
	if len(foreign) > 0 {
		c.r.add(Finding{Warning, s.Dir, "no root and no log knows these files: " + strings.Join(foreign, ", "),
			"The node leaves them alone; they take room.", "Move them away if nobody put them here on purpose."})
	}
}

// expected checks that the replicas are there that the metadata puts on this node.
func (c *checkup) expected() {
	if c.node.Unknown != nil {
		return
	}
	names, err := c.node.Names()
	if err != nil {
		return // set 0 has its findings
	}
	for _, s := range names.Sets() {
		has := slices.ContainsFunc(c.node.Sets, func(d inspect.SetDir) bool { return d.ID == s.ID })
		if has || !slices.Contains(s.Replicas, c.node.Identity.Node) {
			continue
		}
		c.r.add(Finding{Error, datadir.SetDir(c.node.Dir, s.ID), fmt.Sprintf("the directory of set %d is missing, of which this node has a replica", s.ID),
			"What this node acknowledged for the set is not here.", lostReplica(s.Replicas)})
	}
}

func lostReplica(replicas []cmq.NodeID) string {
	if len(replicas) == 1 {
		return "This is the only replica: restore the directory from a backup before the node starts, for it would begin an empty one."
	}
	return "Start the node: it begins an empty one, does not vote with it, and is filled by the others. Do so on one node at a time."
}
