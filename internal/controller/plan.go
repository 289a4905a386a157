package controller

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/meta"
)

// maxReplicas is how many nodes hold one set: two of three may confirm, one may fail.
const maxReplicas = 3

// Plan is the Bootstrap of a fresh cluster: the controller's set on the first (up to three) nodes, and as many
// data sets as nodes, so that each node can lead one. The replicas of data set i are node i and the nodes after
// it; the first one named is the natural leader. Limits are taken from limits; cluster is a random number.
func Plan(cluster uint64, nodes []cmq.Node, key cmq.AccessKey, limits *cmq.Limits) *meta.Bootstrap {
	b := &meta.Bootstrap{
		Cluster:    cluster,
		MaxQueues:  limits.QueuesPerOwner,
		MaxSources: limits.SourcesPerDeadLetterQueue,
		Nodes:      nodes,
		Key:        key,

		MaxTopics:        limits.TopicsPerOwner,
		MaxSubscriptions: limits.SubscriptionsPerTopic,
	}
	b.Sets = append(b.Sets, cmq.Set{ID: cmq.ControllerSet, Replicas: replicas(nodes, 0)})
	for i := range nodes {
		b.Sets = append(b.Sets, cmq.Set{ID: cmq.SetID(i + 1), Replicas: replicas(nodes, i)})
	}
	return b
}

// replicas names up to maxReplicas nodes from nodes[first] on, going round.
func replicas(nodes []cmq.Node, first int) []cmq.NodeID {
	var ids []cmq.NodeID
	for i := range min(maxReplicas, len(nodes)) {
		ids = append(ids, nodes[(first+i)%len(nodes)].ID)
	}
	return ids
}
