package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/inspect"
)

// overviews shows one line for each replica.
func (in *inspecting) overviews(n *inspect.Node, out func(*section) error) error {
	sec := &section{Dir: n.Dir, title: fmt.Sprintf("%s: %s", n.Dir, whose(n))}
	sec.header = []string{"SET", "STATE", "ENTRIES", "COMMITTED", "TERM", "IMAGE", "IMAGE TIME", "LOG", "ARCHIVE", "REFERENCES", "REPLICAS ON"}
	rows := []inspect.Overview{}
	for _, d := range n.Sets {
		if !in.wants(d) {
			continue
		}
		s := n.Open(d)
		o := s.Overview()
		s.Close()
		rows = append(rows, o)
		sec.table = append(sec.table, []string{
			number(o.Set), o.State, span(o.First, o.Last), number(o.Committed), number(o.Term), number(o.Image), millisText(o.ImageTime),
			files(o.LogFiles, o.LogBytes), files(o.ArchiveFiles, o.ArchiveBytes), sizeText(o.RefBytes), nodeList(o.Voters),
		})
		sec.below = append(sec.below, o.Problems...)
	}
	sec.Rows = rows
	return out(sec)
}

// known tells whether a census counts, and says below the rows why it does not.
func (sec *section) known(c *inspect.Census, err error) bool {
	if err == nil {
		err = c.Partial
	}
	if err != nil {
		sec.notes = append(sec.notes, "what is live and what is dead is not known for certain: "+err.Error())
	}
	return err == nil
}

func files(n int, bytes int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%d, %s", n, sizeText(bytes))
}

func nodeList(ids []cmq.NodeID) string {
	if len(ids) == 0 {
		return "not known"
	}
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(ids)), ", "), "[]")
}

func (in *inspecting) segments(_ *inspect.Node, s *inspect.Set, sec *section) error {
	list, err := s.Segments(in.quick)
	if err != nil {
		return err
	}
	c, err := s.Census()
	if sec.known(c, err) {
		s.Weigh(c, list)
	}
	sec.Rows = list
	sec.header = []string{"FILE", "PLACE", "STATE", "FIRST-LAST", "ENTRIES", "SIZE", "USED", "LIVE", "DEAD"}
	for _, g := range list {
		sec.table = append(sec.table, []string{
			g.File, g.Place, g.State, span(g.First, g.Last), number(g.Entries), sizeText(g.Size), sizeText(g.Used), someSize(g.Live), someSize(g.Dead),
		})
		sec.below = append(sec.below, g.Problems...)
	}
	return nil
}

func (in *inspecting) entriesCommand() *cobra.Command {
	var r inspect.Range
	cmd := in.command("entries [DIR]", "entries of the raft log, as they lie in the segment files",
		"Shows entries of the raft log as they lie in the segment files: index, term, what they do, and of each message the length\n"+
			"and whether its checksum is right. Bodies are shown with --body only: they are your users' data.",
		in.eachSet(func(n *inspect.Node, s *inspect.Set, sec *section) error { return in.entries(n, s, sec, r) }))
	f := cmd.Flags()
	f.Uint64Var(&r.From, "from", 0, "lowest index; 0: the first there is")
	f.IntVar(&r.Count, "count", 20, "how many indexes")
	f.BoolVar(&r.Body, "body", false, "show the bodies of messages")
	return cmd
}

func (in *inspecting) entries(n *inspect.Node, s *inspect.Set, sec *section, r inspect.Range) error {
	names, err := n.Names()
	if err != nil {
		sec.notes = append(sec.notes, "queues are shown by their ids: "+err.Error())
	}
	list, err := s.Entries(r, names.Of)
	if err != nil {
		return err
	}
	sec.Rows = list
	sec.header = []string{"INDEX", "TERM", "TIME", "NODE", "FILE", "OFFSET", "BYTES", "WHAT"}
	for i := range list {
		e := &list[i]
		what := oneLine(e.Summary, 100)
		if e.Replaced {
			what = "replaced: " + what
		}
		sec.table = append(sec.table, []string{
			number(e.Index), number(e.Term), millisText(e.Time), someNode(e.Proposer), e.File, number(e.Offset), number(e.Bytes), what,
		})
		sec.table = append(sec.table, in.bodies(e, r.Body)...)
		if e.Problem != nil {
			sec.below = append(sec.below, *e.Problem)
		}
	}
	return nil
}

// bodies are lines for messages: all of them with their bodies, else those that are not as they were written.
func (in *inspecting) bodies(e *inspect.Entry, all bool) (lines [][]string) {
	for _, o := range e.Ops {
		for _, b := range o.Bodies {
			if b.OK && !all {
				continue
			}
			text := "the checksum is wrong"
			switch {
			case b.OK && b.Bytes != nil:
				text = fmt.Sprintf("%d bytes that are no text; see -o json", b.Length)
			case b.OK:
				text = oneLine(b.Text, 100)
			}
			lines = append(lines, []string{"", "", "", "", "", "", number(b.Length), fmt.Sprintf("slot %d, id %s: %s", b.Slot, b.ID, text)})
		}
	}
	return lines
}

func someNode(id cmq.NodeID) string {
	if id == 0 {
		return "-"
	}
	return number(id)
}

func (in *inspecting) images(_ *inspect.Node, s *inspect.Set, sec *section) error {
	list := s.Images()
	sec.Rows = list
	sec.header = []string{"FILE", "STATE", "INDEX", "TERM", "TIME", "SIZE", "REFERENCES"}
	for _, i := range list {
		sec.table = append(sec.table, []string{
			i.File, i.State, number(i.Index), number(i.Term), millisText(i.Time), sizeText(i.Size), files(i.Refs, i.RefBytes),
		})
		sec.below = append(sec.below, i.Problems...)
	}
	return nil
}

func (in *inspecting) chunksCommand() *cobra.Command {
	var each bool
	cmd := in.command("chunks [DIR]", "files of references, which say where the messages of a queue lie",
		"Shows the files of references, which say where the messages of a queue lie, as of the newest image, and checks them.\n"+
			"With --each, every piece of them.",
		in.eachSet(func(n *inspect.Node, s *inspect.Set, sec *section) error { return in.chunks(n, s, sec, each) }))
	cmd.Flags().BoolVar(&each, "each", false, "show every chunk")
	return cmd
}

// chunkRows are the rows of cmq inspect chunks -o json.
type chunkRows struct {
	Files  []inspect.RefFile `json:"files"`
	Chunks []inspect.Chunk   `json:"chunks"`
}

func (in *inspecting) chunks(n *inspect.Node, s *inspect.Set, sec *section, each bool) error {
	names, err := n.Names()
	if err != nil {
		sec.notes = append(sec.notes, "queues are shown by their ids: "+err.Error())
	}
	rows := chunkRows{}
	rows.Files, rows.Chunks, err = s.Chunks(names.Of)
	sec.Rows = &rows
	for _, f := range rows.Files {
		sec.below = append(sec.below, f.Problems...)
	}
	if !each {
		in.refFiles(rows, sec)
		rows.Chunks = nil
		return err
	}
	sec.header = []string{"FILE", "OFFSET", "STATE", "QUEUE", "DUE", "POSITIONS", "ENTRIES", "RUNS", "MESSAGES", "SIZE"}
	for _, c := range rows.Chunks {
		where, offset := c.File, number(c.Offset)
		if where == "" {
			where, offset = "(image)", "-"
		}
		positions := fmt.Sprintf("%d-%d", c.Lo, c.Hi-1)
		if c.Hi == 0 {
			positions = fmt.Sprintf("from %d", c.Lo)
		}
		sec.table = append(sec.table, []string{
			where, offset, c.State, c.Queue, millisText(c.Lane), positions, span(c.First, c.Last), number(c.Runs), sizeText(int64(c.Bytes)), sizeText(c.Size),
		})
	}
	return err
}

func (in *inspecting) refFiles(rows chunkRows, sec *section) {
	sec.header = []string{"FILE", "STATE", "SIZE", "CHUNKS", "RUNS", "OF IMAGES"}
	for _, f := range rows.Files {
		sec.table = append(sec.table, []string{f.File, f.State, sizeText(f.Size), number(f.Chunks), number(f.Runs), strings.Trim(fmt.Sprint(f.Images), "[]")})
	}
	if inImage := len(rows.Chunks); inImage > 0 {
		for _, f := range rows.Files {
			inImage -= f.Chunks
		}
		sec.notes = append(sec.notes, fmt.Sprintf("%d more chunks lie in the newest image; --each shows all", inImage))
	}
}

func (in *inspecting) archive(_ *inspect.Node, s *inspect.Set, sec *section) error {
	c, err := s.Census()
	if !sec.known(c, err) {
		c = nil
	}
	list := s.Archive(in.quick, c)
	sec.Rows = list
	sec.header = []string{"FILE", "FORM", "STATE", "FIRST-LAST", "MESSAGES", "SIZE", "LIVE", "DEAD"}
	for _, f := range list {
		messages := "-"
		if f.Messages != nil {
			messages = number(*f.Messages)
		}
		sec.table = append(sec.table, []string{
			f.File, f.Form, f.State, span(f.First, f.Last), messages, sizeText(f.Size), someSize(f.Live), someSize(f.Dead),
		})
		sec.below = append(sec.below, f.Problems...)
	}
	return nil
}

// idText is the id of a queue or subscription as the API gives it.
func idText(q *inspect.Queue) string {
	if q.Topic != 0 {
		return cmq.SubscriptionID(q.ID).String()
	}
	return q.ID.String()
}

const queuesHelp = `Shows the queues of every data set, and the subscriptions of topics as TOPIC/SUBSCRIPTION, as they are after the last entry
of the log: how many messages, what these take (LIVE), and what messages that nobody needs any more still take in segments (DEAD). Files of messages (see "archive") do not
say whose a dead message was; what is dead there is in the line below. All segments are read.`

func (in *inspecting) queues(n *inspect.Node, s *inspect.Set, sec *section) error {
	names, err := n.Names()
	if err != nil {
		sec.notes = append(sec.notes, "queues are shown by their ids: "+err.Error())
	}
	list, census, err := s.Queues(names)
	if err != nil {
		return err
	}
	if census == nil {
		sec.notes = append(sec.notes, "this set holds the metadata and no messages")
		return nil
	}
	sec.Rows = list
	sec.header = []string{"QUEUE", "ID", "SHARD", "ACTIVE", "INACTIVE", "DELAYED", "REWINDABLE", "MESSAGES", "LIVE", "DEAD"}
	for _, q := range list {
		sec.table = append(sec.table, []string{
			q.Name, idText(&q), number(q.Shard.Ordinal()), number(q.Active), number(q.Inactive), number(q.Delayed), number(q.Rewind),
			number(q.Messages), sizeText(q.Live), sizeText(q.Dead),
		})
	}
	sec.below = append(sec.below, census.Lost...)
	sec.known(census, nil)
	sec.notes = append(sec.notes, fmt.Sprintf("as of entry %d; dead in files of messages: %s", census.Applied, sizeText(s.DeadInArchive(census))))
	if census.Nowhere > 0 {
		sec.notes = append(sec.notes, fmt.Sprintf("%d messages are needed and in no file here: the node fetches them from the other replicas", census.Nowhere))
	}
	return nil
}
