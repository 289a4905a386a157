package node

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push"
	"github.com/opencmq/cmq/internal/dispatch/push/guard"
	"github.com/opencmq/cmq/internal/dispatch/push/mail"
	"github.com/opencmq/cmq/internal/dispatch/push/sms"
	"github.com/opencmq/cmq/internal/dispatch/push/web"
)

const (
	// pushPatience is how long a node that stops waits for deliveries under way before it hands over what it leads.
	pushPatience = 10 * time.Second
	// outletsPause is the least time between two looks at all subscriptions, however fast the table changes.
	outletsPause = 50 * time.Millisecond
)

// startPush makes what delivers to endpoints.
func (n *Node) startPush() error {
	allow, err := guard.ParseAllowed(n.opt.PushAllow)
	if err != nil {
		return err
	}
	n.endpoints = web.NewClient(guard.New(guard.Config{Allow: allow, Own: n.ownAddresses}), 0)
	n.endpoints.LimitHosts(n.opt.PushPerHost)
	targets := map[cmq.Protocol]push.Target{
		cmq.ProtocolHTTP:     web.NewEndpoints(n.endpoints),
		cmq.ProtocolFunction: web.NewFunctions(n.endpoints),
	}
	if n.opt.Mail.Addr != "" {
		if targets[cmq.ProtocolMail], err = mail.New(n.opt.Mail); err != nil {
			return err
		}
	}
	if n.opt.SMS.URL != "" {
		n.gateway = web.NewClient(guard.New(guard.Config{Allow: anywhere, Own: n.ownAddresses}), 0)
		n.gateway.LimitHosts(n.opt.PushPerHost)
		if targets[cmq.ProtocolSMS], err = sms.New(n.opt.SMS, n.gateway); err != nil {
			return err
		}
	}
	n.pusher = push.New(push.Config{Do: n.do, Logger: n.log, Targets: targets})
	return nil
}

// protocols are those that subscriptions may have here: to a queue, and what there is a target for.
func (n *Node) protocols() []cmq.Protocol {
	all := []cmq.Protocol{cmq.ProtocolQueue, cmq.ProtocolHTTP, cmq.ProtocolFunction}
	if n.opt.Mail.Addr != "" {
		all = append(all, cmq.ProtocolMail)
	}
	if n.opt.SMS.URL != "" {
		all = append(all, cmq.ProtocolSMS)
	}
	return all
}

// anywhere is for what the operator chose, not a subscriber.
var anywhere = guard.Allowed{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// stopPush waits for deliveries under way, but not for long.
func (n *Node) stopPush(ctx context.Context) {
	if n.pusher == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pushPatience)
	defer cancel()
	n.pusher.Close(ctx)
	n.endpoints.Close()
	if n.gateway != nil {
		n.gateway.Close()
	}
}

// ownAddresses is where the nodes of this cluster listen, as far as that is known as numbers.
func (n *Node) ownAddresses() (all []netip.AddrPort) {
	for _, l := range []net.Listener{n.opt.HTTP, n.opt.TCP, n.opt.Peer, n.opt.Admin} {
		if l == nil {
			continue
		}
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			all = append(all, a.AddrPort())
		}
	}
	for _, o := range n.meta.Table().Nodes() {
		for _, s := range []string{o.HTTP, o.TCP, o.Peer, o.Admin} {
			if a, err := netip.ParseAddrPort(s); err == nil {
				all = append(all, a)
			}
		}
	}
	return all
}

// endpointProblem says what is wrong with the URL of an endpoint, as far as the URL itself shows it.
func (n *Node) endpointProblem(url string) error {
	return n.endpoints.Check(url)
}

// watchOutlets tells the pusher which subscriptions are delivered from here: those of the sets this node leads, without
// those of agents.
func (n *Node) watchOutlets() {
	for n.ctx.Err() == nil {
		changed := n.board.Changed()
		n.pusher.Update(n.outlets())
		select {
		case <-n.ctx.Done():
		case <-changed:
		case <-n.leads:
		}
		n.pause(nil, outletsPause)
	}
}

func (n *Node) outlets() (list []push.Outlet) {
	table := n.meta.Table()
	for _, s := range table.AllSubscriptions() {
		topic := table.TopicByID(s.Topic)
		if s.Protocol != cmq.ProtocolQueue && !s.ByAgent() && topic != nil && n.leader(topic.Set) == n.opt.ID {
			list = append(list, push.Outlet{Set: topic.Set, Topic: topic, Subscription: s})
		}
	}
	return list
}
