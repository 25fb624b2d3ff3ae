package broker

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/diskwatch"
	"durablestream/internal/room"
	"durablestream/internal/wire"
)

// upAll starts all nodes of a cluster.
func upAll(t *testing.T, cfgs []Config) []*Broker {
	t.Helper()
	var nodes []*starting
	for _, cfg := range cfgs {
		nodes = append(nodes, start(t, cfg))
	}
	var out []*Broker
	for _, n := range nodes {
		out = append(out, n.up(t))
	}
	return out
}

func publish(ctx context.Context, b *Broker, n int) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		ack, err := b.js.Publish(try, wire.EventSubject("a.b", "s"), []byte("{}"), jetstream.WithMsgID(fmt.Sprint(n)))
		cancel()
		if err == nil || ctx.Err() != nil {
			return ack, err
		}
	}
}

// The leader's disk fills: it steps aside, the others go on, and so do its own
// clients; with space it comes back with all that it missed. Nothing is lost.
func TestClusterNodeWithFullDisk(t *testing.T) {
	t.Parallel()
	cfgs := clusterOf(t, 3)
	nodes := upAll(t, cfgs)
	leader := -1
	require.Eventually(t, func() bool {
		for i, b := range nodes {
			if b.server.JetStreamIsStreamLeader(b.cfg.account(), wire.LogName) {
				leader = i
			}
		}
		return leader >= 0
	}, 20*time.Second, 10*time.Millisecond)
	full := nodes[leader]
	var free atomic.Int64
	free.Store(1 << 40)
	full.WatchDisk(1<<30, func() (int64, error) { return free.Load(), nil })

	seqs := map[uint64]bool{}
	n := 0
	send := func(b *Broker) {
		t.Helper()
		n++
		ack, err := publish(t.Context(), b, n)
		require.NoError(t, err)
		seqs[ack.Sequence] = true
	}
	for range 20 {
		send(full)
	}
	begun := time.Now()
	free.Store(1 << 20)
	require.Eventually(t, func() bool { return full.Disk().Full }, 20*time.Second, time.Millisecond)
	for range 20 {
		send(full) // through its routes
		send(nodes[(leader+1)%3])
	}
	t.Log("aside, and 40 more stored, after", time.Since(begun))
	require.False(t, full.server.JetStreamEnabled())

	free.Store(1 << 40)
	require.Eventually(t, func() bool { return !full.Disk().Full }, 20*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		acc, err := full.logAccount()
		if err != nil || full.server.JetStreamEnabled() == false {
			return false
		}
		return acc.JetStreamEnabled() && full.health().Status == "ok"
	}, 30*time.Second, 10*time.Millisecond, "it does not catch up")
	// Now the other two are not enough of a majority without it.
	require.NoError(t, nodes[(leader+1)%3].Stop(t.Context()))
	send(full)
	require.Len(t, seqs, n, "every acknowledgement is of a position of its own")
	s, err := full.js.Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	require.EqualValues(t, n, s.CachedInfo().State.Msgs)
}

// What a node is started with must fit what the others made.
func TestClusterRefusesFewerReplicas(t *testing.T) {
	t.Parallel()
	cfgs := clusterOf(t, 3)
	for i := range cfgs {
		cfgs[i].Cluster.Replicas = 1
	}
	nodes := upAll(t, cfgs)
	require.NoError(t, nodes[0].Stop(t.Context()))
	again := cfgs[0]
	cluster := *again.Cluster
	cluster.Replicas = 3
	again.Cluster = &cluster
	s := start(t, again)
	<-s.done
	var weak *event.WeakLogError
	require.ErrorAs(t, s.err, &weak)
	require.Equal(t, "num_replicas", weak.Setting)
}

func TestClusterConfigRefused(t *testing.T) {
	t.Parallel()
	good := clusterOf(t, 3)[0]
	for words, change := range map[string]func(*Config){
		"the cluster has no name":  func(c *Config) { c.Cluster.Name = "" },
		"has no name: each node":   func(c *Config) { c.Name = "" },
		"name 2 nodes":             func(c *Config) { c.Cluster.Routes = c.Cluster.Routes[:2] },
		"must be 1, 3 or 5":        func(c *Config) { c.Cluster.Replicas = 2 },
		"must have a port":         func(c *Config) { c.Cluster.Listen = "127.0.0.1:0" },
		"must be nats://host:port": func(c *Config) { c.Cluster.Routes = []string{"h:1", "h:2", "h:3"} },
	} {
		c := good
		cluster := *good.Cluster
		c.Cluster = &cluster
		c.Dir = t.TempDir()
		change(&c)
		_, err := Start(t.Context(), c)
		require.ErrorContains(t, err, words)
	}
}

// A node steps aside for whatever its disk lacks, and comes back where a file of a block's
// size can be made.
func TestClusterNodeStepsAside(t *testing.T) {
	t.Parallel()
	nodes := upAll(t, clusterOf(t, 3))
	node := nodes[0]
	var see atomic.Pointer[room.Room]
	var full atomic.Bool // for a file of a block's size
	ample := room.Room{Free: 1 << 40, Inodes: 1000, Files: 2000}
	see.Store(&ample)
	node.watchAgain(1<<20, func(host *diskwatch.Broker) {
		host.See = func() (room.Room, error) { return *see.Load(), nil }
		host.Probe = func(bool) error {
			if full.Load() {
				return syscall.EDQUOT
			}
			return nil
		}
	})

	for lack, r := range map[Lack]room.Room{
		LackInodes:  {Free: 1 << 40, Inodes: 3, Files: 2000},
		LackWriting: {Free: 1 << 40, Inodes: 1000, Files: 2000, ReadOnly: true},
	} {
		see.Store(&r)
		require.Eventually(t, func() bool { return node.Disk().Full }, 20*time.Second, time.Millisecond)
		require.Equal(t, lack, node.Disk().Lack)
		require.False(t, node.server.JetStreamEnabled())
		_, err := publish(t.Context(), node, 1) // through its routes
		require.NoError(t, err)

		full.Store(true)
		see.Store(&ample)
		require.Eventually(t, func() bool { return node.Disk().Lack == LackQuota }, 20*time.Second, time.Millisecond)
		require.False(t, node.server.JetStreamEnabled())
		full.Store(false)
		require.Eventually(t, func() bool { return !node.Disk().Full && node.health().Status == "ok" }, 30*time.Second, 10*time.Millisecond)
		require.Equal(t, LackNothing, node.Disk().Lack)
	}
}
