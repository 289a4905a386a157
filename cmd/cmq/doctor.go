package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/internal/config"
	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/doctor"
	"github.com/opencmq/cmq/internal/vfs"
)

// doctoring is what cmq doctor was asked to look at.
type doctoring struct {
	app    *app
	admin  string
	config string
	all    bool
}

func (a *app) doctorCommand() *cobra.Command {
	d := &doctoring{app: a}
	cmd := &cobra.Command{
		Use: "doctor [DIR] | --admin URL", Short: "check a data directory or a running node, and say what to do", Args: atMost("DIR"),
		Long: "Checks, changes nothing, and says for each finding what it means and what to do.\n\n" +
			"A data directory whose node does not run: every byte against its checksum, whose it is, the root, the chain of segments,\n" +
			"images, references and what they refer to, whether every message the queues need is there, what does not belong\n" +
			"there, free space and inodes against the marks. DIR is the data_dir of a node or the --data-dir of cmq dev; without it,\n" +
			"that of --config, or CMQ_DATA_DIR. All data is read once.\n\n" +
			"A running node, by its admin address: health checks, sets without leader, replicas in repair or behind, damage and lost\n" +
			"messages, space, slow disks, clocks, descriptors, versions. With --all, every node of the cluster whose admin address\n" +
			"can be reached from here.\n\n" +
			"Exit codes: 0 healthy, 1 findings, 2 something could not be checked and nothing was found in the rest.",
	}
	f := cmd.Flags()
	f.StringVar(&d.admin, "admin", "", "admin address of a running node, for example http://127.0.0.1:7673")
	f.BoolVar(&d.all, "all", false, "with --admin: the other nodes of the cluster too")
	f.StringVar(&d.config, "config", "", "configuration of the node: its data_dir, and its marks for free space")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		reports, err := d.look(cmd, args)
		if err != nil {
			return err
		}
		return d.show(reports)
	}
	return cmd
}

func (d *doctoring) look(cmd *cobra.Command, args []string) ([]doctor.Report, error) {
	if d.admin != "" {
		if len(args) > 0 || d.config != "" {
			return nil, usagef("--admin is for a running node, DIR and --config are for a directory whose node does not run; give one of them")
		}
		ctx, stop := interrupted(cmd.Context())
		defer stop()
		reports, err := doctor.Running(ctx, d.admin, d.all)
		if err != nil && ctx.Err() == nil {
			err = uncheckedError{err}
		}
		return reports, err
	}
	if d.all {
		return nil, usagef("--all needs --admin: the admin address of one running node")
	}
	dir := d.app.env("CMQ_DATA_DIR")
	var marks datadir.Marks
	if d.config != "" {
		c, err := config.Load(config.Sources{File: d.config, Environ: d.app.environ})
		if err != nil {
			return nil, err
		}
		dir = c.DataDir
		marks = datadir.Marks{Soft: uint64(c.Storage.SoftFreeBytes), Hard: uint64(c.Storage.HardFreeBytes)}
	}
	if len(args) > 0 {
		dir = args[0]
	}
	if dir == "" {
		return nil, usagef("nothing to check: give DIR or --config for a directory whose node does not run, or --admin for a running node")
	}
	reports, err := doctor.Directory(vfs.OS(), dir, marks)
	if err != nil {
		err = uncheckedError{err}
	}
	return reports, err
}

// show prints the reports and gives the exit code as an error.
func (d *doctoring) show(reports []doctor.Report) error {
	code := exitOK
	for i := range reports {
		switch r := &reports[i]; {
		case len(r.Findings) > 0:
			code = exitFailure
		case len(r.Unchecked) > 0 && code == exitOK:
			code = exitUsage
		}
	}
	if d.app.output == "json" {
		if err := d.app.show(reports, nil, nil); err != nil {
			return err
		}
	} else if err := d.print(reports); err != nil {
		return err
	}
	if code != exitOK {
		return quietError(code)
	}
	return nil
}

func (d *doctoring) print(reports []doctor.Report) error {
	var b strings.Builder
	for i := range reports {
		r := &reports[i]
		state := "healthy"
		switch {
		case len(r.Findings) == 1:
			state = "1 finding"
		case len(r.Findings) > 0:
			state = fmt.Sprintf("%d findings", len(r.Findings))
		case len(r.Unchecked) > 0:
			state = "could not be checked"
		}
		fmt.Fprintf(&b, "%s: %s\n", r.Subject, state)
		for _, f := range r.Findings {
			fmt.Fprintf(&b, "\n  %s: %s\n    %s\n    means:  %s\n    do:     %s\n", f.Level, f.Subject, f.What, f.Means, f.Do)
		}
		if len(r.Findings) > 0 {
			b.WriteString("\n")
		}
		for _, c := range r.Checked {
			fmt.Fprintf(&b, "  checked: %s\n", c)
		}
		for _, u := range r.Unchecked {
			fmt.Fprintf(&b, "  not checked: %s\n", u)
		}
	}
	_, err := fmt.Fprint(d.app.stdout, b.String())
	return err
}
