package status

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/paths"
)

// unreadable tells what is known although the Log could not be read: which nodes
// answer, and what to do. What is wrong with the question itself, such as its key, is
// returned.
func (a *Answer) unreadable(ctx context.Context, cfg Config, why error) error {
	var typo *paths.ParentError
	if errors.As(why, &typo) || client.Hopeless(why) || errors.Is(why, client.ErrNoLog) || ctx.Err() != nil {
		return why
	}
	if len(cfg.Servers) == 0 && a.stopped() {
		return nil // it was stopped meanwhile
	}
	var damaged *broker.DamagedError
	if errors.As(why, &damaged) { // at its end: nobody may host it
		*a = Answer{Dir: a.Dir, Alarms: []Alarm{{Name: AlarmDamaged, Message: strings.TrimPrefix(damaged.Error(), "broker: ")}}}
		return nil
	}
	var locked *broker.LockedError
	*a = Answer{Dir: a.Dir, Servers: a.Servers, Running: errors.As(why, &locked), Unreadable: true, Alarms: []Alarm{}}
	var all []string
	var hosts []broker.HostStatus
	conns := a.reach(ctx, cfg)
	for _, nc := range conns {
		defer nc.Close()
		a.Running = true
		if c := nc.ConnectedClusterName(); c != "" {
			a.Cluster = c
			a.answers(nc.ConnectedServerName())
		}
		if len(hosts) == 0 { // no more than one can ask is needed
			hosts, _ = askHosts(ctx, nc, maxNodes)
		}
		if len(all) == 0 && a.Cluster != "" {
			brief, cancel := context.WithTimeout(ctx, firstAnswer)
			all, _ = client.LogNodes(brief, nc) // none: what else is known is told
			cancel()
		}
	}
	a.hosts(client.State{Cluster: a.Cluster}, hosts)
	var here []string
	for _, n := range a.Nodes {
		here = append(here, n.Name)
	}
	away := without(all, here)
	for _, name := range away {
		a.Nodes = append(a.Nodes, Node{Name: name, Silent: true})
	}
	slices.SortFunc(a.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	var words string
	switch {
	case len(conns) == 0 && len(cfg.Servers) > 0:
		words = "none of the servers answers: start the nodes, a majority of them at least; if they run, look at the addresses and the network"
	case len(conns) == 0:
		words = a.noHostWords()
	case len(away) > 0:
		words = "the log cannot be read" + awayWords(away, all)
	case len(a.Silent) > 0:
		words = "the log cannot be read: " + strings.Join(a.Silent, ", ") + " do not answer (down, stopped or cut off): start the nodes there; a majority is needed, and all of them when a cluster first starts"
	default:
		words = "the log cannot be read: what answers may be choosing a leader, or waits for other nodes: look again in some seconds, and start those that are down"
	}
	a.Alarms = slices.Insert(a.Alarms, 0, Alarm{Name: AlarmUnreadable, Message: words + " (" + why.Error() + ")"})
	return nil
}

// noHostWords are about a directory whose host cannot be reached.
func (a *Answer) noHostWords() string {
	if !a.Running {
		return "nobody hosts this log, and this process cannot"
	}
	var m broker.Managed
	b, err := paths.ReadFile(filepath.Join(a.Dir, durablestream.HostDir, broker.ManagedFile))
	if err == nil && json.Unmarshal(b, &m) == nil && m.Cluster != "" {
		a.Cluster = m.Cluster
		return "the node " + m.Node + " of the cluster " + m.Cluster + " runs here and has no log yet: it waits for the other nodes. Start them: a new cluster needs all of its nodes once, later a majority is enough"
	}
	return "a process has this log and cannot be reached: it is starting, or does not get on; look at what it says"
}

// reach connects to each of the servers by itself, or to the host in the directory,
// and notes which do not answer.
func (a *Answer) reach(ctx context.Context, cfg Config) (conns []*nats.Conn) {
	target := client.Target{NKey: cfg.NKey, TLS: cfg.TLS}
	if len(cfg.Servers) == 0 {
		target.AddressFile = broker.AddressPath(filepath.Join(a.Dir, durablestream.HostDir))
		if nc, err := client.Connect(ctx, target); err == nil {
			conns = append(conns, nc)
		}
		return conns
	}
	all := make([]*nats.Conn, len(cfg.Servers))
	var wg sync.WaitGroup
	for i, server := range cfg.Servers {
		one := target
		one.Servers = []string{server}
		wg.Go(func() {
			if nc, err := client.Connect(ctx, one); err == nil {
				all[i] = nc
			}
		})
	}
	wg.Wait()
	for i, nc := range all {
		if nc == nil {
			a.Silent = append(a.Silent, cfg.Servers[i])
		} else {
			conns = append(conns, nc)
		}
	}
	return conns
}

// answers notes a node that answers.
func (a *Answer) answers(name string) {
	if !slices.ContainsFunc(a.Nodes, func(n Node) bool { return n.Name == name }) {
		a.Nodes = append(a.Nodes, Node{Name: name})
	}
}

// firstAnswer is how long a host has for its answer; one that is there takes a
// millisecond.
const firstAnswer = 2 * time.Second
