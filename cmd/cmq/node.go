package main

import (
	"context"
	"sync"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push/mail"
	"github.com/opencmq/cmq/internal/dispatch/push/sms"
	"github.com/opencmq/cmq/internal/node"
)

// nodeProcess is a node of package node as a process.
type nodeProcess struct {
	*node.Node
	failed chan struct{}
	once   sync.Once
	err    error // set before failed is closed
}

// Failed implements process.
func (p *nodeProcess) Failed() <-chan struct{} { return p.failed }

// Err implements process; call it after Failed is closed.
func (p *nodeProcess) Err() error { return p.err }

func (p *nodeProcess) fail(err error) {
	p.once.Do(func() {
		p.err = err
		close(p.failed)
	})
}

// firstAccount owns the key every new cluster begins with, and its queues. The API's accounts are numbers.
const firstAccount = "1"

// startNode is the starter of real nodes.
func startNode(_ context.Context, o nodeOptions) (process, error) {
	p := &nodeProcess{failed: make(chan struct{})}
	c := &o.config
	limits := cmq.DefaultLimits()
	limits.QueuesPerOwner = c.Limits.QueuesPerOwner
	limits.TopicsPerOwner, limits.SubscriptionsPerTopic = c.Limits.TopicsPerOwner, c.Limits.SubscriptionsPerTopic
	limits.RequestBytes = c.Limits.RequestBytes
	n, err := node.Start(node.Options{
		ID:      cmq.NodeID(c.Node.ID),
		Version: version().String(),
		DataDir: c.DataDir,
		Cluster: c.Cluster.Name,
		Nodes:   o.nodes(),
		Join:    c.Cluster.Join,
		Key:     cmq.AccessKey{ID: c.Auth.SecretID, Secret: c.Auth.SecretKey, Owner: firstAccount, Enabled: true},
		HTTP:    o.listeners.HTTP,
		TCP:     o.listeners.TCP,
		Peer:    o.listeners.Peer,
		Admin:   o.listeners.Admin,
		TCPDoor: node.TCPDoor{
			MaxConns: c.Limits.TCPConnections, MaxStrangers: c.Limits.TCPStrangers,
			AuthTimeout: c.Limits.TCPAuthTimeout, IdleTimeout: c.Limits.TCPIdleTimeout,
		},
		Limits:      limits,
		ClockSkew:   c.Auth.ClockSkew,
		HostAliases: c.Auth.HostAliases,
		PushPerHost: c.Push.HostConnections,
		PushAllow:   c.Push.Allow,
		Mail:        mail.Server{Addr: c.Push.SMTPAddr, From: c.Push.SMTPFrom, User: c.Push.SMTPUser, Password: c.Push.SMTPPassword, TLS: c.Push.SMTPTLS},
		SMS:         sms.Gateway{URL: c.Push.SMSURL, Body: c.Push.SMSBody, ContentType: c.Push.SMSContentType, Authorization: c.Push.SMSAuthorization},
		Storage: node.Storage{
			SegmentSize: int64(c.Storage.SegmentBytes), CacheBytes: int64(c.Storage.CacheBytes),
			SoftFree: uint64(c.Storage.SoftFreeBytes), HardFree: uint64(c.Storage.HardFreeBytes),
			FetchRate: int64(c.Storage.FetchRate), ScrubRate: int64(c.Storage.ScrubRate), ScrubPause: c.Storage.ScrubPause,
		},
		Logger: o.logger,
		Failed: p.fail,
	})
	if err != nil {
		o.listeners.close()
		return nil, err
	}
	p.Node = n
	return p, nil
}

// nodes lists all nodes of the cluster with the addresses that are known here: all of them in cmq dev, in
// cmq server the peer addresses of the seed list and the own ones.
func (o *nodeOptions) nodes() []cmq.Node {
	var nodes []cmq.Node
	own := o.listeners.ports(&o.config)
	for _, p := range o.config.Cluster.Nodes {
		known := ports{Node: p.ID, Peer: p.Addr}
		for _, other := range append(o.cluster, own) {
			if other.Node == p.ID {
				known = other
			}
		}
		nodes = append(nodes, cmq.Node{ID: cmq.NodeID(p.ID), HTTP: known.HTTP, TCP: known.TCP, Peer: p.Addr, Admin: known.Admin})
	}
	if len(nodes) == 0 {
		nodes = append(nodes, cmq.Node{ID: cmq.NodeID(own.Node), HTTP: own.HTTP, TCP: own.TCP, Peer: own.Peer, Admin: own.Admin})
	}
	return nodes
}
