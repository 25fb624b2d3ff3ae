package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

// ClusterConfig says how a node meets the others.
type ClusterConfig struct {
	// Name is the cluster's, the same on all nodes. Required.
	Name string
	// Listen is host:port for the other nodes. Required, with a port of its own:
	// the others must know it.
	Listen string
	// Advertise is the host:port by which the other nodes reach Listen, where that is
	// another one, such as behind a proxy. Default: Listen.
	Advertise string
	// Routes are the addresses of all nodes' Listen, nats://host:port, this one's
	// too; the same list on all nodes. The engine takes their number for the size of
	// the cluster when it first starts: one that thought itself smaller could go on
	// without the others.
	Routes []string
	// Replicas of the Log: on how many nodes each event is. 1, 3 or 5. Default 3.
	Replicas int
}

const defaultReplicas = 3

func (c ClusterConfig) withDefaults(name string) (ClusterConfig, error) {
	if c.Replicas == 0 {
		c.Replicas = defaultReplicas
	}
	// The server makes no difference between nats://h:1 and nats://h:1/.
	c.Routes = slices.Clone(c.Routes)
	for i, r := range c.Routes {
		c.Routes[i] = strings.TrimSuffix(strings.TrimSpace(r), "/")
	}
	slices.Sort(c.Routes)
	c.Routes = slices.Compact(c.Routes)
	switch {
	case c.Name == "":
		return c, errors.New("broker: the cluster has no name: all its nodes are given the same one")
	case strings.ContainsAny(c.Name, " \t\r\n"):
		return c, fmt.Errorf("broker: cluster name %q: must hold no white space", c.Name)
	case name == "":
		return c, fmt.Errorf("broker: this node of the cluster %s has no name: each node has its own, and keeps it", c.Name)
	case !slices.Contains([]int{1, 3, 5}, c.Replicas):
		return c, fmt.Errorf("broker: replicas %d: must be 1, 3 or 5", c.Replicas)
	case len(c.Routes) < max(c.Replicas, 2):
		return c, fmt.Errorf("broker: routes name %d nodes, and the cluster %s with %d replicas needs %d: name all nodes, this one too",
			len(c.Routes), c.Name, c.Replicas, max(c.Replicas, 2))
	}
	return c, nil
}

// clusterOptions makes opts those of a node.
func (c Config) clusterOptions(opts *server.Options) error {
	host, port, err := c.listenAddress("cluster listen", c.Cluster.Listen)
	if err != nil {
		return err
	}
	if port <= 0 {
		return asConfig(fmt.Errorf("broker: cluster listen address %q: must have a port, which the other nodes' routes name", c.Cluster.Listen))
	}
	for _, r := range c.Cluster.Routes {
		u, err := url.Parse(r)
		if err != nil || u.Scheme != "nats" || u.Port() == "" {
			return asConfig(fmt.Errorf("broker: route %q: must be nats://host:port", r))
		}
		opts.Routes = append(opts.Routes, u)
	}
	opts.Cluster = server.ClusterOpts{Name: c.Cluster.Name, Host: host, Port: port, Advertise: c.Cluster.Advertise,
		// A route that was cut without a word is given up after some 6 s, instead of a
		// minute, and made anew as soon as the other node can be reached again.
		PingInterval: routePing, MaxPingsOut: 2}
	if c.TLS == (TLSConfig{}) {
		return nil
	}
	// Both ends of a route show a certificate of the same authority.
	tc, err := c.TLS.load()
	if err == nil && tc.ClientCAs == nil {
		err = asConfig(errors.New("broker: TLS between nodes needs the authorities, too: each verifies the other"))
	}
	if err != nil {
		return err
	}
	tc.ClientAuth = tls.RequireAndVerifyClientCert
	opts.Cluster.TLSConfig, opts.Cluster.TLSTimeout = tc, 5 // seconds; the engine's 2 are short for a machine under load
	return nil
}

const (
	routePing      = 2 * time.Second
	clusterLook    = 100 * time.Millisecond // between looks at what is missing
	clusterAttempt = 2 * time.Second        // for one answer
)

// openClusterLog waits until the cluster has the Log, and makes it where there is
// none. It waits as long as ctx lasts, and says for what.
//
// Any number of nodes may try to make it at once: the engine takes the first, and
// answers the others, who ask for the same, as if it had been theirs. The first
// time, all nodes must be there: nodes with nothing on disk choose a leader only
// unanimously (raft.go, runAsCandidate), lest nodes that lost their disks go on
// without the others. From then on a majority is enough.
func (b *Broker) openClusterLog(ctx context.Context) error {
	said := ""
	for {
		err := b.tryClusterLog(ctx)
		if err == nil || !b.passing(err) {
			return err
		}
		if words := b.missing(err); words != said {
			said = words
			b.cfg.Waiting(words)
		}
		if err := wait.For(ctx, clusterLook); err != nil {
			return fmt.Errorf("broker: stopped %s: %w", said, err)
		}
	}
}

func (b *Broker) tryClusterLog(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clusterAttempt)
	defer cancel()
	err := b.checkLog(ctx)
	if !errors.Is(err, jetstream.ErrStreamNotFound) || len(b.nodesHere()) < b.cfg.Cluster.Replicas {
		return err
	}
	if err = wire.CreateLog(ctx, b.js, b.cfg.Cluster.Replicas, b.cfg.DuplicateWindow); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return b.checkLog(ctx) // whoever made it
}

// passing reports an error that the arrival of other nodes may mend.
func (b *Broker) passing(err error) bool {
	var api *jetstream.APIError
	var weak *event.WeakLogError
	var newer *event.NewerFormatError
	if errors.As(err, &weak) || errors.As(err, &newer) {
		return false
	}
	return !errors.As(err, &api) || api.Code >= 500 || errors.Is(err, jetstream.ErrStreamNotFound) || api.ErrorCode == wire.CodeNoPeers
}

// nodesHere are the names of the nodes that this one is connected to, and its own.
func (b *Broker) nodesHere() []string {
	here := []string{b.cfg.Name}
	if z, err := b.server.Routez(nil); err == nil {
		for _, r := range z.Routes {
			here = append(here, r.RemoteName)
		}
	}
	slices.Sort(here)
	return slices.Compact(here)
}

// missing says what the cluster waits for.
func (b *Broker) missing(err error) string {
	c := b.cfg.Cluster
	here, size := b.nodesHere(), len(c.Routes)
	words := fmt.Sprintf("waiting for the cluster %s: %d of %d nodes are here (%s); ", c.Name, len(here), size, strings.Join(here, ", "))
	switch {
	case len(here) <= size/2:
		return words + "a majority is needed"
	case !b.hasMetaLeader() && len(here) < size:
		return words + fmt.Sprintf("they choose a leader, for which a new cluster needs all %d once", size)
	case !b.hasMetaLeader():
		return words + "they choose a leader"
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return words + "the log has no leader yet"
	case len(here) < c.Replicas:
		return words + fmt.Sprintf("the log is made on %d nodes, all of which must be here for that", c.Replicas)
	}
	return words + "the log is being made"
}

func (b *Broker) hasMetaLeader() bool {
	z, err := b.jsz(nil)
	return err == nil && z.Meta != nil && z.Meta.Leader != ""
}
