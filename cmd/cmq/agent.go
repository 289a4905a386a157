package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/opencmq/cmq/internal/agent"
	"github.com/opencmq/cmq/internal/config"
	"github.com/opencmq/cmq/internal/dispatch/push/guard"
)

func (a *app) agentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "agent --name NAME --push-allow RANGES", Short: "deliver messages of topics in a private network", Args: exactly(),
		Long: "Runs in a network that the cluster cannot reach, and brings messages of topics to URLs in there, until Ctrl-C or SIGTERM.\n" +
			"It only dials out: to the endpoints of the cluster that it is given. What it delivers is what subscriptions say that\n" +
			"name it:\n\n" +
			"  cmq subscription create TOPIC NAME --http http://10.20.0.7/paid --agent plant\n" +
			"  cmq agent --name plant --push-allow 10.20.0.0/16 --endpoint http://cmq.example.com:7670\n\n" +
			"The access key must be one of the account that owns the topics. Nothing is delivered to addresses outside of\n" +
			"--push-allow. Several agents with one name share the work; when one dies, the others go on after 30s at most.\n" +
			"Settings come from --config, variables and flags; all keys are described in docs/configuration.md, and the rest in\n" +
			"docs/push.md.",
		Example: "  cmq agent --name plant --push-allow 10.20.0.0/16,10.21.0.7 --endpoint https://cmq-1.example.com,https://cmq-2.example.com\n" +
			"  cmq agent --config /etc/cmq/agent.yaml --log-format json",
	}
	f := cmd.Flags()
	file := f.String("config", "", "configuration file (YAML)")
	check := f.Bool("check-config", false, "check the configuration and do nothing else")
	saved := f.String("context", "", "saved context with endpoint and access key, see: cmq context (or CMQ_CONTEXT)")
	config.AgentFlags(f)
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(flagName(name))
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.LoadAgent(config.Sources{File: *file, Environ: a.environ, Flags: f})
		if err != nil {
			return err
		}
		a.target = target{endpoints: c.Endpoint, secretID: c.SecretID, secretKey: c.SecretKey, context: *saved}
		if a.target, err = a.resolve(); err != nil {
			return err
		}
		if *check {
			_, err := fmt.Fprintln(a.stdout, "configuration is valid")
			return err
		}
		return a.runAgent(cmd.Context(), c)
	}
	return cmd
}

func (a *app) runAgent(ctx context.Context, c config.Agent) error {
	logger, err := newLogger(a.stderr, c.Log)
	if err != nil {
		return err
	}
	allow, err := guard.ParseAllowed(c.Push.Allow)
	if err != nil {
		return usageError{err.Error()}
	}
	service, err := a.target.client(a.target.endpoints)
	if err != nil {
		return err
	}
	defer service.Close()
	if tcp, http := a.target.byProtocol(); len(http) == 0 {
		return usagef("an agent speaks HTTP; give --endpoint http://HOST:PORT instead of %s", tcp[0])
	}
	d := &delivering{app: a, config: c, log: logger, agent: agent.New(agent.Config{
		Name: c.Name, Service: service.Agent(c.Name), Allow: allow, Own: doorsOf(a.target.endpoints), Logger: logger,
	})}
	return d.run(ctx)
}

// doorsOf gives the addresses of endpoints that are numbers.
func doorsOf(endpoints []string) (list []netip.AddrPort) {
	for _, e := range endpoints {
		u, err := url.Parse(e)
		if err != nil {
			continue
		}
		host := u.Host
		if u.Port() == "" {
			host += map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
		}
		if at, err := netip.ParseAddrPort(host); err == nil {
			list = append(list, at)
		}
	}
	return list
}

// delivering is an agent from its start to its end.
type delivering struct {
	app    *app
	config config.Agent
	log    *slog.Logger
	agent  *agent.Agent
}

// run delivers until the first signal. Another one ends the process.
func (d *delivering) run(ctx context.Context) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		d.watch(signals, cancel, ended)
	}()
	err := d.agent.Run(ctx, func(subscriptions int) {
		d.log.Info("connected", "agent", d.config.Name, "subscriptions", subscriptions)
	})
	stopping, stop := context.WithTimeout(context.WithoutCancel(ctx), d.config.Shutdown.Deadline)
	defer stop()
	d.agent.Close(stopping)
	close(ended)
	<-watched
	if err != nil {
		return err
	}
	s := d.agent.Stats()
	d.log.Info("stopped", "agent", d.config.Name, "delivered", s.Delivered.Load(), "failed", s.Failed.Load(), "given_up", s.GivenUp.Load(), "unsettled", s.Unsettled.Load())
	return nil
}

// watch ends the agent at the first signal, and the process at the second.
func (d *delivering) watch(signals <-chan os.Signal, first func(), ended <-chan struct{}) {
	for _, then := range []func(){
		func() { fmt.Fprintln(d.app.stderr, "cmq: stopping; once more stops at once"); first() },
		func() { d.app.exit(exitInterrupted) },
	} {
		select {
		case <-signals:
			then()
		case <-ended:
			return
		}
	}
}
