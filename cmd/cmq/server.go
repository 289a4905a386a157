package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/opencmq/cmq/internal/config"
)

func (a *app) serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "server", Short: "run one node", Args: exactly(),
		Long: "Runs one node until Ctrl-C or SIGTERM. Settings come from --config, CMQ_SECTION_KEY variables and flags; a flag\n" +
			"wins over a variable, a variable over the file. All keys are described in docs/configuration.md.",
	}
	f := cmd.Flags()
	file := f.String("config", "", "configuration file (YAML)")
	check := f.Bool("check-config", false, "check the configuration and do nothing else")
	show := f.Bool("print-config", false, "print the configuration as it would be used, without secrets")
	config.Flags(f)
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(flagName(name))
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Load(config.Sources{File: *file, Environ: a.environ, Flags: f})
		switch {
		case err != nil:
			return err
		case *show:
			return c.Print(a.stdout)
		case *check:
			_, err := fmt.Fprintln(a.stdout, "configuration is valid")
			return err
		}
		return a.serve(cmd, c)
	}
	return cmd
}

// flagName lets --section.key and --section_key stand for --section-key.
func flagName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c == '.' || c == '_' {
			b[i] = '-'
		}
	}
	return string(b)
}

func (a *app) serve(cmd *cobra.Command, c config.Config) error {
	logger, err := newLogger(a.stderr, c.Log)
	if err != nil {
		return err
	}
	l, err := listen(&c)
	if err != nil {
		return err
	}
	p := l.ports(&c)
	r := &running{app: a, deadline: c.Shutdown.Deadline}
	return r.run(cmd.Context(), []nodeOptions{{config: c, listeners: l, logger: logger}}, func() error {
		logger.Info("ready", "node", c.Node.ID, "http", p.HTTP, "tcp", p.TCP, "peer", p.Peer, "admin", p.Admin)
		return nil
	})
}
