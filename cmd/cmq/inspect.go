package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/config"
	"github.com/opencmq/cmq/internal/inspect"
	"github.com/opencmq/cmq/internal/vfs"
)

// inspecting is what the inspect commands were asked to look at.
type inspecting struct {
	app   *app
	dir   string
	set   int // -1: all
	node  uint64
	quick bool
}

// section is what is shown of one node, or of one of its replicas.
type section struct {
	Node     cmq.NodeID        `json:"node"` // 0: not known
	Cluster  string            `json:"cluster"`
	Dir      string            `json:"dir"`
	Process  int               `json:"process,omitempty"` // that uses the directory
	Set      *cmq.SetID        `json:"set,omitempty"`
	Rows     any               `json:"rows"`
	Problems []inspect.Problem `json:"problems,omitempty"` // found when the directory was opened, and those of rows that are not shown

	title  string
	header []string
	table  [][]string
	below  []inspect.Problem // of the rows
	notes  []string          // lines behind everything
}

const inspectHelp = `DIR is the data_dir of a node, the --data-dir of cmq dev, or the directory of one replica (set-001); without it,
CMQ_DATA_DIR. Nothing is ever written or locked. A node that uses the directory may go on: its files change while they are
read, so what is shown may be a moment old, and what is being written shows as a write that was not finished.

Damage is shown, with file and offset, and what can be read is shown all the same. "cmq doctor" says what to do about it.`

func (a *app) inspectCommand() *cobra.Command {
	in := &inspecting{app: a}
	cmd := in.command("inspect [DIR]", "show what is in a data directory; never writes",
		"Shows nodes and replicas of a data directory at a glance. The subcommands show more.", in.overviews)
	cmd.AddCommand(
		in.withQuick(in.command("segments [DIR]", "segment files of the log and of the archive", "", in.eachSet(in.segments))),
		in.entriesCommand(),
		in.command("images [DIR]", "images of the state (checkpoints)", "", in.eachSet(in.images)),
		in.chunksCommand(),
		in.withQuick(in.command("archive [DIR]", "files of messages that have left the log, with live and dead bytes", "", in.eachSet(in.archive))),
		in.command("queues [DIR]", "queues, with live and dead bytes", queuesHelp, in.eachSet(in.queues)),
	)
	return cmd
}

// looker shows one node; it gives each section to out.
type looker func(n *inspect.Node, out func(*section) error) error

func (in *inspecting) command(use, short, long string, look looker) *cobra.Command {
	if long == "" {
		long = "Shows " + short + "."
	}
	cmd := &cobra.Command{Use: use, Short: short, Long: long + "\n\n" + inspectHelp, Args: atMost("DIR")}
	f := cmd.Flags()
	f.IntVar(&in.set, "set", -1, "only this set; -1: all")
	f.Uint64Var(&in.node, "node", 0, "only this node of a cluster of cmq dev; 0: all")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		in.dir = in.app.env("CMQ_DATA_DIR")
		if len(args) > 0 {
			in.dir = args[0]
		}
		return in.run(look)
	}
	return cmd
}

func (in *inspecting) withQuick(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&in.quick, "quick", false, "read only heads and indexes of files, and do not check the rest")
	return cmd
}

// atMost allows these arguments and wants none. What comes before too many may be a misspelled command.
func atMost(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			if near := config.Nearest(args[0], available(cmd)); near != "" {
				return usagef("unknown command %q for %q; did you mean %q?", args[0], cmd.CommandPath(), near)
			}
			return usagef("unexpected argument %q; usage: %s", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// run shows every node that was asked for.
func (in *inspecting) run(look looker) error {
	nodes, err := in.nodes()
	if err != nil {
		return err
	}
	sections := []*section{}
	for _, n := range nodes {
		in.warn(n)
		err := look(n, func(s *section) error {
			s.Node, s.Cluster, s.Process = n.Identity.Node, n.Identity.Cluster, n.PID
			if in.app.output == "json" {
				sections = append(sections, s)
				return nil
			}
			return in.print(s)
		})
		if err != nil {
			return err
		}
	}
	if in.app.output == "json" {
		return in.app.show(sections, nil, nil)
	}
	return nil
}

// warn tells what is special about the directory as a whole.
func (in *inspecting) warn(n *inspect.Node) {
	if n.PID != 0 {
		fmt.Fprintf(in.app.stderr, "cmq: process %d is using %s: files change while they are read, and what is shown may be a moment old\n", n.PID, n.Dir)
	}
	if n.Unknown != nil {
		fmt.Fprintf(in.app.stderr, "cmq: %v\n", n.Unknown)
	}
}

// print shows a section as a table, with what is wrong below it.
func (in *inspecting) print(s *section) error {
	out := in.app.stdout
	if _, err := fmt.Fprintln(out, s.title); err != nil {
		return err
	}
	switch {
	case len(s.table) > 0:
		if err := in.app.table(s.header, s.table); err != nil {
			return err
		}
	case s.header != nil:
		fmt.Fprintln(out, "nothing")
	}
	said := map[inspect.Problem]bool{}
	for _, p := range append(slices.Clone(s.Problems), s.below...) {
		q := p
		q.Fix = "" // the same may be found twice
		if said[q] {
			continue
		}
		said[q] = true
		fmt.Fprintf(out, "%s: %s\n", p.Kind, p)
		if p.Fix != "" {
			fmt.Fprintf(out, "    %s\n", p.Fix)
		}
	}
	for _, n := range s.notes {
		fmt.Fprintln(out, n)
	}
	_, err := fmt.Fprintln(out)
	return err
}

// nodes finds those that were asked for.
func (in *inspecting) nodes() ([]*inspect.Node, error) {
	if in.dir == "" {
		return nil, usagef("no data directory: give DIR or CMQ_DATA_DIR")
	}
	all, err := inspect.Find(vfs.OS(), in.dir)
	if err != nil {
		return nil, err
	}
	var nodes []*inspect.Node
	found := false
	for _, n := range all {
		if in.node != 0 && uint64(n.Identity.Node) != in.node {
			continue
		}
		nodes = append(nodes, n)
		for _, s := range n.Sets {
			found = found || in.wants(s)
		}
	}
	switch {
	case len(nodes) == 0:
		return nil, usagef("%s holds no node %d", in.dir, in.node)
	case in.set >= 0 && !found:
		return nil, usagef("%s holds no replica of set %d", in.dir, in.set)
	}
	return nodes, nil
}

func (in *inspecting) wants(s inspect.SetDir) bool { return in.set < 0 || int(s.ID) == in.set }

// eachSet opens the replicas that were asked for, one after the other.
func (in *inspecting) eachSet(show func(n *inspect.Node, s *inspect.Set, out *section) error) looker {
	return func(n *inspect.Node, out func(*section) error) error {
		for _, d := range n.Sets {
			if !in.wants(d) {
				continue
			}
			s := n.Open(d)
			sec := &section{Dir: d.Dir, Set: &d.ID, Problems: s.Problems, title: fmt.Sprintf("%s: set %d of %s", d.Dir, d.ID, whose(n))}
			err := show(n, s, sec)
			s.Close()
			if err != nil { // what is wrong with one does not keep others from being shown
				sec.Problems = append(slices.Clone(sec.Problems), inspect.Problem{File: d.Dir, What: err.Error(), Kind: inspect.Unreadable})
			}
			if err := out(sec); err != nil {
				return err
			}
		}
		return nil
	}
}

func whose(n *inspect.Node) string {
	if n.Unknown != nil {
		return "an unknown node"
	}
	return fmt.Sprintf("node %d of cluster %q", n.Identity.Node, n.Identity.Cluster)
}

// sizeText is a number of bytes for people.
func sizeText(n int64) string {
	if n < 10_000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f /= 1024; f < 1000 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// someSize is sizeText for a number that may not be known.
func someSize(n *int64) string {
	if n == nil {
		return "-"
	}
	return sizeText(*n)
}

// millisText is a moment for people, "-" for none.
func millisText(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

func number[T ~int | ~int64 | ~uint64 | ~uint16 | ~uint8](n T) string { return fmt.Sprint(n) }

// span is two numbers, "-" if there is nothing in between.
func span(first, last uint64) string {
	if last < first || last == 0 {
		return "-"
	}
	return fmt.Sprintf("%d-%d", first, last)
}
