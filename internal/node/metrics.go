package node

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/opencmq/cmq/internal/engine"
	"github.com/opencmq/cmq/internal/set"
)

// collector turns the node's counters into samples when /metrics is read; nothing is looked up per message.
type collector struct {
	n *Node

	connections, ready            *prometheus.Desc
	tcpConns, tcpStrangers        *prometheus.Desc
	tcpRefused, tcpBad, polls     *prometheus.Desc
	queues, topics, subscriptions *prometheus.Desc
	tableVersion                  *prometheus.Desc
	leader, term, applied         *prometheus.Desc
	logFirst, logLast, dropped    *prometheus.Desc
	sent, received, deleted       *prometheus.Desc
	released, empty, busy         *prometheus.Desc
	full, mended, quarantined     *prometheus.Desc
	prepared, undecided           *prometheus.Desc
	committed, rolledBack, asked  *prometheus.Desc
	repeated                      *prometheus.Desc
	free, space, image            *prometheus.Desc
	logBytes, archiveBytes        *prometheus.Desc
	written                       *prometheus.Desc
	damage, scrubs                *prometheus.Desc
	state, wrong                  *prometheus.Desc
	peerBytes, peerDrops, refused *prometheus.Desc
	lost                          *prometheus.Desc
	pushed, pushFailed, pushLanes *prometheus.Desc
	pushGivenUp, pushUnsettled    *prometheus.Desc
	pushOpen, pushTries           *prometheus.Desc
	pushWaiting                   *prometheus.Desc
	agents, agentsMissed          *prometheus.Desc
}

func newCollector(n *Node) *collector {
	perSet := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, []string{"set"}, nil) }
	single := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &collector{
		n:             n,
		connections:   single("cmq_http_connections", "Open connections of clients to the HTTP door."),
		tcpConns:      single("cmq_tcp_connections", "Open connections of clients to the TCP door."),
		tcpStrangers:  single("cmq_tcp_strangers", "Of these, connections that have not said who they are."),
		tcpRefused:    single("cmq_tcp_refused_total", "Connections to the TCP door closed because there were too many."),
		tcpBad:        single("cmq_tcp_bad_frames_total", "Connections to the TCP door closed because what they sent is no frame of the protocol."),
		polls:         single("cmq_polls", "Requests of all doors that wait for a message."),
		ready:         single("cmq_ready", "1 if /readyz answers 200, else 0."),
		queues:        single("cmq_queues", "Queues in this node's table of metadata."),
		topics:        single("cmq_topics", "Topics in this node's table of metadata."),
		subscriptions: single("cmq_subscriptions", "Subscriptions of all topics in this node's table of metadata."),
		tableVersion:  single("cmq_metadata_version", "Version of this node's table of metadata."),
		leader:        perSet("cmq_set_leader", "Node that leads the set as this node knows, 0 if it knows none."),
		term:          perSet("cmq_set_term", "Raft term of this node's replica."),
		applied:       perSet("cmq_set_applied_index", "Raft index applied last by this node's replica."),
		logFirst:      perSet("cmq_set_log_first_index", "Oldest raft index in this node's log."),
		logLast:       perSet("cmq_set_log_last_index", "Newest raft index in this node's log."),
		dropped:       perSet("cmq_set_inbox_dropped_total", "Messages of other replicas dropped because the loop was behind."),
		sent:          perSet("cmq_messages_sent_total", "Messages stored by this node as leader."),
		received:      perSet("cmq_messages_received_total", "Deliveries made by this node as leader."),
		deleted:       perSet("cmq_messages_deleted_total", "Messages deleted by their consumers, by this node as leader."),
		released:      perSet("cmq_messages_released_total", "Deliveries undone because the client had gone."),
		empty:         perSet("cmq_receives_empty_total", "Receives that ended without a message."),
		busy:          perSet("cmq_requests_busy_total", "Requests refused because too much was waiting for the set."),
		full:          perSet("cmq_requests_full_total", "Requests refused because a disk of the set is full."),
		mended:        perSet("cmq_messages_mended_total", "Messages that could not be read here and came from another replica."),
		quarantined:   perSet("cmq_messages_quarantined_total", "Messages deleted because no replica could give them."),
		prepared:      perSet("cmq_messages_prepared", "Messages sent in transactions that are not decided, as this replica has them."),
		undecided:     perSet("cmq_messages_undecided", "Of these, messages whose producers were asked as often as the queue allows without an answer; on the leader, else 0."),
		committed:     perSet("cmq_messages_committed_total", "Prepared messages committed, by this node as leader."),
		rolledBack:    perSet("cmq_messages_rolled_back_total", "Prepared messages rolled back, by this node as leader."),
		asked:         perSet("cmq_transaction_queries_total", "Queries about prepared messages handed to doors, by this node as leader."),
		repeated:      perSet("cmq_messages_repeated_total", "Messages of producer sessions that were sent again and not stored again, by this node as leader."),
		free:          single("cmq_disk_free_bytes", "Free bytes on the disk of the data directory."),
		space:         perSet("cmq_set_space", "How full the fullest disk of the set is as this node knows: 0 there is room, 1 sends are refused, 2 receives too."),
		image:         perSet("cmq_set_image_index", "Raft index of this replica's newest image."),
		logBytes:      perSet("cmq_set_log_bytes", "Bytes of this replica's log files."),
		archiveBytes:  perSet("cmq_set_archive_bytes", "Bytes of this replica's files of messages that have left the log."),
		written:       perSet("cmq_set_written_bytes_total", "Bytes this replica has written to its files since the process started."),
		damage:        perSet("cmq_damage_found_total", "Damaged places found in the files of this replica since the process started."),
		scrubs:        perSet("cmq_scrub_passes_total", "How often all files of this replica have been read to find damage since the process started."),
		state:         perSet("cmq_set_state", "What this replica is: 0 a normal one, 1 being filled, 2 in repair."),
		wrong:         perSet("cmq_set_wrong_states_total", "How often the state of this replica was not that of most and was replaced by theirs, since the process started."),
		peerBytes:     single("cmq_peer_bytes_total", "Bytes exchanged with other nodes.", "direction"),
		peerDrops:     single("cmq_peer_dropped_total", "Messages and calls to other nodes dropped before sending."),
		refused:       single("cmq_peer_refused_total", "Connections to the peer port refused: wrong cluster, unknown node or garbage."),
		lost:          single("cmq_peer_connections_lost_total", "Connections to other nodes that broke."),
		pushLanes:     single("cmq_push_subscriptions", "Subscriptions that this node delivers to endpoints, because it leads their sets."),
		pushOpen:      single("cmq_push_circuits_open", "Of these, subscriptions whose endpoint fails, so that only messages that are due for a retry are tried."),
		pushTries:     single("cmq_push_tries", "Deliveries to endpoints under way."),
		pushWaiting:   single("cmq_push_waiting", "Of these, deliveries that wait because as many as push.host_connections are under way to their host."),
		pushed:        single("cmq_push_delivered_total", "Deliveries that an endpoint has taken."),
		pushFailed:    single("cmq_push_failed_total", "Deliveries that failed."),
		pushGivenUp:   single("cmq_push_given_up_total", "Messages that a subscription lost, or that went to its dead-letter queue, because the last try had failed."),
		agents:        single("cmq_agents", "Agents that are connected; on the node that leads set 0, else 0."),
		agentsMissed:  single("cmq_agent_subscriptions_waiting", "Subscriptions of agents of which none is connected, so that nothing is delivered; on the node that leads set 0, else 0."),
		pushUnsettled: single("cmq_push_unsettled_total", "Messages that an endpoint has taken, but that may be delivered again because this could not be written down in time."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	table := c.n.meta.Table()
	ready := 1.0
	if failing(c.n.readyChecks()) != nil {
		ready = 0
	}
	gauge(c.ready, ready)
	gauge(c.connections, float64(c.n.door.Conns()))
	tcp := c.n.tcpDoor.Stats()
	gauge(c.tcpConns, float64(tcp.Conns))
	gauge(c.tcpStrangers, float64(tcp.Strangers))
	counter(c.tcpRefused, tcp.Refused)
	counter(c.tcpBad, tcp.BadFrames)
	gauge(c.polls, float64(c.n.polls.Open()))
	gauge(c.free, float64(c.n.free.Load()))
	gauge(c.queues, float64(table.QueueCount()))
	gauge(c.topics, float64(table.TopicCount()))
	gauge(c.subscriptions, float64(table.SubscriptionCount()))
	gauge(c.tableVersion, float64(table.Version()))
	c.collectPush(gauge, counter)
	for _, id := range c.n.setIDs {
		h, label := c.n.sets[id], strconv.Itoa(int(id))
		status := h.host.Status()
		c.collectSet(gauge, status, label)
		counter(c.damage, status.Scrub.Damaged, label)
		counter(c.scrubs, status.Scrub.Passes, label)
		counter(c.wrong, status.WrongStates, label)
		logBytes, archiveBytes := h.store.Size()
		gauge(c.logBytes, float64(logBytes), label)
		gauge(c.archiveBytes, float64(archiveBytes), label)
		counter(c.written, h.written.Load(), label)
		counter(c.dropped, h.host.Dropped(), label)
		if h.service != nil {
			c.collectEngine(counter, h.service.Machine.Stats(), label)
			gauge(c.prepared, float64(h.service.Machine.Stats().Prepared.Load()), label)
			gauge(c.undecided, float64(h.service.Machine.Stats().Undecided.Load()), label)
		}
	}
	if t := c.n.transport.Load(); t != nil {
		k := t.Counters()
		counter(c.peerBytes, k.BytesSent.Load(), "sent")
		counter(c.peerBytes, k.BytesReceived.Load(), "received")
		counter(c.peerDrops, k.Dropped.Load())
		counter(c.refused, k.Refused.Load())
		counter(c.lost, k.Lost.Load())
	}
}

func (c *collector) collectPush(gauge func(*prometheus.Desc, float64, ...string), counter sampler) {
	s := c.n.pusher.Stats()
	gauge(c.pushLanes, float64(c.n.pusher.Lanes()))
	gauge(c.pushOpen, float64(s.Open.Load()))
	gauge(c.pushTries, float64(s.InFlight.Load()))
	waiting := c.n.endpoints.Waiting()
	if c.n.gateway != nil {
		waiting += c.n.gateway.Waiting()
	}
	gauge(c.pushWaiting, float64(waiting))
	counter(c.pushed, s.Delivered.Load())
	counter(c.pushFailed, s.Failed.Load())
	counter(c.pushGivenUp, s.GivenUp.Load())
	counter(c.pushUnsettled, s.Unsettled.Load())
	connected, waiting := c.n.agents()
	gauge(c.agents, float64(connected))
	gauge(c.agentsMissed, float64(waiting))
}

type sampler func(d *prometheus.Desc, v uint64, labels ...string)

func (c *collector) collectSet(gauge func(*prometheus.Desc, float64, ...string), s set.Status, label string) {
	gauge(c.leader, float64(s.Leader), label)
	gauge(c.term, float64(s.Term), label)
	gauge(c.applied, float64(s.Applied), label)
	gauge(c.logFirst, float64(s.First), label)
	gauge(c.logLast, float64(s.Last), label)
	gauge(c.space, float64(s.Space), label)
	gauge(c.image, float64(s.ImageIndex), label)
	state := 0.0
	switch {
	case s.Repairing:
		state = 2
	case s.Fetching:
		state = 1
	}
	gauge(c.state, state, label)
}

func (c *collector) collectEngine(counter sampler, s *engine.Stats, label string) {
	counter(c.sent, s.Sent.Load(), label)
	counter(c.received, s.Received.Load(), label)
	counter(c.deleted, s.Deleted.Load(), label)
	counter(c.released, s.Released.Load(), label)
	counter(c.empty, s.Empty.Load(), label)
	counter(c.busy, s.Busy.Load(), label)
	counter(c.full, s.Full.Load(), label)
	counter(c.mended, s.Mended.Load(), label)
	counter(c.quarantined, s.Quarantined.Load(), label)
	counter(c.committed, s.Committed.Load(), label)
	counter(c.rolledBack, s.RolledBack.Load(), label)
	counter(c.asked, s.Asked.Load(), label)
	counter(c.repeated, s.Repeated.Load(), label)
}
