package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/opencmq/cmq/internal/config"
)

// app is what a command may touch of the world outside.
type app struct {
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
	environ []string
	exit    func(code int) // for a second signal
	start   starter

	output string // -o
	target target // where client commands go
}

// run carries out one command line and gives the exit code.
func (a *app) run(args []string) int {
	root := a.command()
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	if err != nil {
		report(a.stdout, a.stderr, a.output == "json", err)
	}
	return exitCode(err)
}

// interrupted gives a context that Ctrl-C ends, for client commands. Servers look at signals themselves.
func interrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt)
}

func (a *app) env(name string) string {
	for _, e := range a.environ {
		if k, v, _ := strings.Cut(e, "="); k == name {
			return v
		}
	}
	return ""
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "cmq",
		Short: "a distributed message queue for work that must not be lost",
		Long: "cmq is a distributed message queue for work that must not be lost. It speaks Tencent CMQ's protocol.\n\n" +
			"Start with:  cmq dev\n\n" + exitHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetIn(a.stdin)
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "table", "output form: table or json")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.output != "table" && a.output != "json" {
			return usagef("unknown output form %q; -o is table or json", a.output)
		}
		return nil
	}
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(&cobra.Group{ID: "server", Title: "Servers:"}, &cobra.Group{ID: "client", Title: "Clients:"}, &cobra.Group{ID: "tools", Title: "Tools:"})
	root.SetHelpCommandGroupID("tools")
	root.SetCompletionCommandGroupID("tools")
	root.AddCommand(
		inGroup("server", a.devCommand(), a.serverCommand(), a.agentCommand())...)
	root.AddCommand(
		inGroup("client", a.queueCommand(), a.sendCommand(), a.receiveCommand(), a.deleteCommand(), a.topicCommand(), a.subscriptionCommand(), a.contextCommand())...)
	root.AddCommand(
		inGroup("tools", a.inspectCommand(), a.doctorCommand(), a.benchCommand(), a.simCommand(), a.versionCommand())...)
	parent(root)
	return root
}

func inGroup(id string, cmds ...*cobra.Command) []*cobra.Command {
	for _, c := range cmds {
		c.GroupID = id
	}
	return cmds
}

// parent makes a command that has only subcommands show its help, and name the nearest one for an unknown word.
func parent(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
		if near := config.Nearest(args[0], available(cmd)); near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		} else {
			text += "; see: " + cmd.CommandPath() + " --help"
		}
		return usageError{text}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// available lists the names of a command's subcommands.
func available(cmd *cobra.Command) (names []string) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// exactly wants these arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return usagef("unexpected argument %q; usage: %s", args[len(names)], cmd.UseLine())
		}
		return atLeast(names...)(cmd, args)
	}
}

// flagError names the nearest flag for an unknown one.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	text := err.Error()
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		add := func(f *pflag.Flag) { names = append(names, f.Name) }
		cmd.Flags().VisitAll(add)
		cmd.InheritedFlags().VisitAll(add)
		if near := config.Nearest(unknown.GetSpecifiedName(), names); near != "" {
			text += fmt.Sprintf("; did you mean --%s?", near)
		}
	}
	return usageError{text + "\nsee: " + cmd.CommandPath() + " --help"}
}

// atLeast wants these arguments and allows more.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s is missing; usage: %s", names[len(args)], cmd.UseLine())
		}
		return nil
	}
}
