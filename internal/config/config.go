// Package config is the configuration of one server: one struct with its defaults, read from a YAML file,
// the environment and flags (flag over environment over file over default), and checked as a whole.
//
// It is not the configuration of queues, which is replicated, and starts nothing. The tags of Config are the only
// list of keys: flags, environment names, error suggestions and docs/configuration.md are derived from it.
package config

import (
	"fmt"
	"net"
	"os"
	"time"
)

// Config of one server. Each field with a doc tag is one key; the tag koanf is the last part of its name.
type Config struct {
	DataDir string `koanf:"data_dir" doc:"Directory for all data of this node. Must be on a local disk and belong to this node alone."`

	Node     Node     `koanf:"node"`
	Cluster  Cluster  `koanf:"cluster"`
	HTTP     Listener `koanf:"http" about:"the HTTP door for clients"`
	TCP      Listener `koanf:"tcp" about:"the TCP door for clients"`
	Peer     Listener `koanf:"peer" about:"the other nodes of the cluster"`
	Admin    Listener `koanf:"admin" about:"health, metrics and administration"`
	Auth     Auth     `koanf:"auth"`
	Log      Log      `koanf:"log"`
	Storage  Storage  `koanf:"storage"`
	Push     Push     `koanf:"push"`
	Limits   Limits   `koanf:"limits"`
	Shutdown Shutdown `koanf:"shutdown"`
}

// Node says who this server is.
type Node struct {
	ID uint64 `koanf:"id" doc:"Number of this node, 1 or more, unique in the cluster and never given to another data directory."`
}

// Cluster says who belongs together.
type Cluster struct {
	Name  string `koanf:"name" doc:"Name of the cluster. Nodes and data directories of another name are refused."`
	Nodes []Peer `koanf:"nodes" doc:"All nodes of a new cluster: a list of {id, peer}, the same on every node; as flag or variable \"1=host:port,2=host:port\". Empty: this node is a cluster of its own."`
	Join  bool   `koanf:"join" doc:"Join a cluster that is running already and does not know this node. cluster.nodes then names some of its nodes and this one; the access keys are the cluster's. The node takes requests and passes them on; it holds no data of its own."`
}

// Peer is one node of the seed list.
type Peer struct {
	ID   uint64
	Addr string // "host:port" of its peer listener
}

// Listener is one listening address. Advertise is what others are told; empty means Addr.
type Listener struct {
	Addr      string `koanf:"addr" doc:"Address to listen on, host:port, for %s. Port 0 takes a free one, \"off\" opens none."`
	Advertise string `koanf:"advertise" doc:"host:port under which others reach %s, if that is not the listening address."`
}

// Off as an address opens no listener.
const Off = "off"

// Auth is the key every new cluster begins with, and how signatures are checked.
type Auth struct {
	SecretID      string        `koanf:"secret_id" doc:"Id of the first access key. Also read from CMQ_SECRET_ID."`
	SecretKey     string        `koanf:"secret_key" doc:"Secret of the first access key. Also read from CMQ_SECRET_KEY." secret:"true"`
	SecretKeyFile string        `koanf:"secret_key_file" doc:"File that holds the secret of the first access key, instead of auth.secret_key."`
	ClockSkew     time.Duration `koanf:"clock_skew" doc:"How far the time stamp of a signed request may be from this node's clock. 0s: not checked."`
	HostAliases   []string      `koanf:"host_aliases" doc:"Further host names (host or host:port, comma separated) that clients may have signed, for servers behind a proxy."`
}

// Log says how much is logged and in which form. Logs go to stderr.
type Log struct {
	Level  string `koanf:"level" doc:"Least level that is logged." oneof:"debug info warn error"`
	Format string `koanf:"format" doc:"auto is text on a terminal and json elsewhere." oneof:"auto text json"`
}

// Storage says how the disk is used.
type Storage struct {
	SegmentBytes  int           `koanf:"segment_bytes" doc:"Size of one file of the log, in bytes; files are made ahead, two for each replica, and room of one more is kept for a full disk."`
	CacheBytes    int           `koanf:"cache_bytes" doc:"Newest part of each replica's log that is kept in memory, in bytes."`
	SoftFreeBytes int           `koanf:"soft_free_bytes" doc:"When less than this is free on the disk of any node of a set, sends are refused until there is more. 0: a twentieth of the disk, at most 2 GiB."`
	HardFreeBytes int           `koanf:"hard_free_bytes" doc:"When less than this is free, receives are refused too; what is locked can still be deleted. 0: a sixteenth of storage.soft_free_bytes."`
	FetchRate     int           `koanf:"fetch_rate" doc:"Bytes a second at which a replica that is far behind or damaged fetches messages from the others."`
	ScrubRate     int           `koanf:"scrub_rate" doc:"Bytes a second at which each replica reads its files again to find damage. 0: never."`
	ScrubPause    time.Duration `koanf:"scrub_pause" doc:"How long a replica waits after it has read all its files before it begins again."`
}

// Push says how messages are delivered to endpoints.
type Push struct {
	Allow []string `koanf:"allow" doc:"Ranges of addresses (10.0.0.0/8, comma separated) that messages may be delivered to beside public ones. All others are refused when they are connected to, and the cluster's own listeners always."`

	HostConnections int `koanf:"host_connections" doc:"Deliveries that this node has under way at once to one host and port, of all subscriptions together; the others wait for one of them to end. 0: any number."`

	SMTPAddr         string `koanf:"smtp_addr" doc:"host:port of the SMTP server that mails of subscriptions are handed to. Empty: none are sent."`
	SMTPFrom         string `koanf:"smtp_from" doc:"Address of the sender of mails."`
	SMTPUser         string `koanf:"smtp_user" doc:"Name to log in with at the SMTP server. Empty: no login."`
	SMTPPassword     string `koanf:"smtp_password" doc:"Password for push.smtp_user." secret:"true"`
	SMTPPasswordFile string `koanf:"smtp_password_file" doc:"File that holds the password, instead of push.smtp_password."`
	SMTPTLS          string `koanf:"smtp_tls" doc:"How the connection to the SMTP server is encrypted: by its command STARTTLS, from the beginning, or not at all." oneof:"starttls tls off"`

	SMSURL               string `koanf:"sms_url" doc:"URL of the gateway for text messages, in which {to}, {text} and {id} stand for number, message and its id. Empty: none are sent."`
	SMSBody              string `koanf:"sms_body" doc:"Body of the call to the gateway, with the same places. Empty: the call is a GET without body."`
	SMSContentType       string `koanf:"sms_content_type" doc:"Content type of push.sms_body."`
	SMSAuthorization     string `koanf:"sms_authorization" doc:"Header Authorization of the call to the gateway. Empty: none." secret:"true"`
	SMSAuthorizationFile string `koanf:"sms_authorization_file" doc:"File that holds that header, instead of push.sms_authorization."`
}

// Limits are the bounds an operator may move; all others are the published ones of the API.
type Limits struct {
	QueuesPerOwner int `koanf:"queues_per_owner" doc:"Queues one account may have."`
	TopicsPerOwner int `koanf:"topics_per_owner" doc:"Topics one account may have."`

	SubscriptionsPerTopic int `koanf:"subscriptions_per_topic" doc:"Subscriptions one topic may have. What is published is noted once for each that it is for."`

	RequestBytes int `koanf:"request_bytes" doc:"Largest HTTP request, url-encoded, in bytes."`

	TCPConnections int           `koanf:"tcp_connections" doc:"Connections the TCP door keeps open. More are closed at once."`
	TCPStrangers   int           `koanf:"tcp_strangers" doc:"Of these, connections that have not said who they are. Beyond it the oldest one is closed."`
	TCPAuthTimeout time.Duration `koanf:"tcp_auth_timeout" doc:"A TCP connection that has not said who it is by then is closed."`
	TCPIdleTimeout time.Duration `koanf:"tcp_idle_timeout" doc:"A TCP connection on which the client says nothing for so long, not even a heartbeat, is closed; also one that takes so long for one frame."`
}

// Shutdown says how the server stops.
type Shutdown struct {
	Deadline time.Duration `koanf:"deadline" doc:"After SIGTERM or Ctrl-C the node hands over leadership and ends open requests; it exits after this time at the latest. A second signal ends it at once."`
}

// Default gives the configuration of a single node without file, environment or flags. There is no default key.
func Default() Config {
	return Config{
		DataDir:  "cmq-data",
		Node:     Node{ID: 1},
		Cluster:  Cluster{Name: "cmq"},
		HTTP:     Listener{Addr: "127.0.0.1:7670"},
		TCP:      Listener{Addr: "127.0.0.1:7671"},
		Peer:     Listener{Addr: "127.0.0.1:7672"},
		Admin:    Listener{Addr: "127.0.0.1:7673"},
		Auth:     Auth{ClockSkew: 2 * time.Hour},
		Log:      Log{Level: "info", Format: "auto"},
		Storage:  Storage{SegmentBytes: 64 << 20, CacheBytes: 32 << 20, FetchRate: 64 << 20, ScrubRate: 8 << 20, ScrubPause: 10 * time.Minute},
		Push:     Push{HostConnections: 256, SMTPTLS: "starttls", SMSContentType: "application/json"},
		Limits:   Limits{QueuesPerOwner: 1000, TopicsPerOwner: 1000, SubscriptionsPerTopic: 500, RequestBytes: 4 << 20, TCPConnections: 20_000, TCPStrangers: 1000, TCPAuthTimeout: 10 * time.Second, TCPIdleTimeout: time.Minute},
		Shutdown: Shutdown{Deadline: 45 * time.Second},
	}
}

// Advertised is the address to tell others, given the address that was really opened (port 0 resolved).
// A wildcard host is replaced by the machine's name.
func (l Listener) Advertised(opened string) string {
	if l.Advertise != "" {
		return l.Advertise
	}
	host, port, err := net.SplitHostPort(opened)
	if err != nil {
		return opened
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	return net.JoinHostPort(host, port)
}

// String is the form used in flags and environment variables.
func (p Peer) String() string { return fmt.Sprintf("%d=%s", p.ID, p.Addr) }
