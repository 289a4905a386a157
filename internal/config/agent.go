package config

import (
	"reflect"
	"time"

	"github.com/spf13/pflag"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push/guard"
)

// Agent is the configuration of cmq agent. Its tags are those of Config; env and flag replace the name that is made of the
// key.
type Agent struct {
	Name          string   `koanf:"name" env:"CMQ_AGENT_NAME" doc:"Name of the agent, as subscriptions give it. Agents with the same name share the work."`
	Endpoint      []string `koanf:"endpoint" doc:"Addresses of nodes of the cluster, http://HOST:PORT or https://HOST:PORT, comma separated. When one cannot be reached the next is tried."`
	SecretID      string   `koanf:"secret_id" doc:"Id of an access key of the account that owns the topics."`
	SecretKey     string   `koanf:"secret_key" doc:"Secret of the access key." secret:"true"`
	SecretKeyFile string   `koanf:"secret_key_file" doc:"File that holds the secret of the access key, instead of secret_key."`

	Push     AgentPush `koanf:"push"`
	Log      Log       `koanf:"log"`
	Shutdown AgentStop `koanf:"shutdown"`
}

// AgentPush says where an agent delivers.
type AgentPush struct {
	Allow []string `koanf:"allow" doc:"Ranges of addresses (10.0.0.0/8, comma separated) that messages may be delivered to: those of the endpoints in the agent's network. All others are refused, public ones too, and the cluster's own."`
}

// AgentStop says how an agent stops.
type AgentStop struct {
	Deadline time.Duration `koanf:"deadline" doc:"After SIGTERM or Ctrl-C the agent takes no more messages and ends deliveries under way; it exits after this time at the latest. A second signal ends it at once."`
}

// DefaultAgent gives the configuration without file, environment or flags.
func DefaultAgent() Agent {
	return Agent{Log: Log{Level: "info", Format: "auto"}, Shutdown: AgentStop{Deadline: 20 * time.Second}}
}

// AgentKeys lists all settings of an agent, in the order of Agent's fields.
func AgentKeys() []Key { return keysOf(reflect.ValueOf(DefaultAgent()), "", "", nil) }

// AgentFlags adds a flag for every key of an agent to fs.
func AgentFlags(fs *pflag.FlagSet) { flags(fs, AgentKeys()) }

// LoadAgent reads and validates the configuration of an agent. Endpoint and access key may be missing: the caller may have
// them from elsewhere. The error is of type Problems.
func LoadAgent(src Sources) (Agent, error) {
	l := loader{keys: AgentKeys()}
	a := DefaultAgent()
	l.load(src, reflect.ValueOf(&a).Elem())
	return a, l.judge(a.Validate())
}

// Validate reports everything that is wrong with the values.
func (a *Agent) Validate() Problems {
	v := new(validator)
	switch {
	case a.Name == "":
		v.report("name", "is missing; it is what subscriptions say: cmq subscription create TOPIC NAME --http URL --agent AGENT")
	case !cmq.ValidName([]byte(a.Name)):
		v.report("name", "%q is no name: up to 64 letters, digits, '-' and '_', and a letter first", a.Name)
	}
	v.printable("secret_id", a.SecretID)
	v.printable("secret_key", a.SecretKey)
	switch _, err := guard.ParseAllowed(a.Push.Allow); {
	case err != nil:
		v.report("push.allow", "has %v", err)
	case len(a.Push.Allow) == 0:
		v.report("push.allow", "is empty, so nothing could be delivered; name the addresses of the endpoints, for example 10.20.0.0/16")
	}
	v.shutdown(Shutdown(a.Shutdown))
	v.choices(AgentKeys(), reflect.ValueOf(a).Elem())
	return v.problems
}
