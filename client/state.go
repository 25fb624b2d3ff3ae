package client

import (
	"context"
	"slices"
	"strings"
	"time"

	"durablestream/event"

	"github.com/nats-io/nats.go/jetstream"
)

// State is the engine's report about the Log.
type State struct {
	First, Last event.Sequence // Last is 0 for an empty Log
	Messages    uint64         // events and guards
	Missing     uint64         // positions between First and Last without a message: damage
	Bytes       uint64         // on disk
	Consumers   int            // readers' places on the server, of this client and others
	Created     time.Time
	Config      jetstream.StreamConfig

	// Both are empty on a single host. Leader is "" while a cluster has none.
	Cluster  string
	Leader   string
	Replicas []Replica // with the leader, in the order of their names
}

// Replica is a node's copy of the Log.
type Replica struct {
	Name    string        `json:"name"`
	Leader  bool          `json:"leader,omitempty"`
	Current bool          `json:"current"`           // it has everything that the leader has
	Offline bool          `json:"offline,omitempty"` // the leader does not hear it
	Lag     uint64        `json:"lag,omitempty"`     // operations behind the leader
	Seen    time.Duration `json:"seen,omitempty"`    // since the leader last heard it
}

func replicas(c *jetstream.ClusterInfo) []Replica {
	var out []Replica
	if c.Leader != "" {
		out = append(out, Replica{Name: c.Leader, Leader: true, Current: true})
	}
	for _, p := range c.Replicas {
		out = append(out, Replica{Name: p.Name, Current: p.Current && !p.Offline, Offline: p.Offline, Lag: p.Lag, Seen: p.Active})
	}
	slices.SortFunc(out, func(a, b Replica) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// State asks the engine about the Log.
func (adm Admin) State(ctx context.Context) (State, error) {
	c := adm.c
	info, err := c.log.Info(ctx)
	if err != nil {
		return State{}, err
	}
	s := State{
		First:     event.Sequence(info.State.FirstSeq),
		Last:      event.Sequence(info.State.LastSeq),
		Messages:  info.State.Msgs,
		Missing:   uint64(info.State.NumDeleted),
		Bytes:     info.State.Bytes,
		Consumers: info.State.Consumers,
		Created:   info.Created,
		Config:    info.Config,
	}
	if c := info.Cluster; c != nil && c.Name != "" {
		s.Cluster, s.Leader, s.Replicas = c.Name, c.Leader, replicas(c)
	}
	return s, nil
}

// Position is the last Sequence of the Log, of an event or a guard; 0 if the Log is
// empty. On a single host it is linearizable. On a cluster it is at least the last
// position that this client has appended or read; Barrier returns one that is
// linearizable.
func (c *Client) Position(ctx context.Context) (event.Sequence, error) { return c.log.Position(ctx) }

// Barrier returns a Sequence that is at or after every event whose append had returned,
// in any process, when Barrier was called. Reads of this client that begin after it
// (queries, lists of checkpoints and intents, Resume) see at least everything up to
// there.
//
// On a cluster it stores one small guard, since only a message that a majority stored
// proves that no other leader is ahead; concurrent callers share one guard. On a single
// host it stores nothing and equals Position. Its errors are those of Append; a barrier
// of unknown outcome is harmless.
func (c *Client) Barrier(ctx context.Context) (event.Sequence, error) { return c.log.Barrier(ctx) }

// Barriers counts the barriers that this client has stored.
func (adm Admin) Barriers() uint64 { return adm.c.log.Barriers() }

// CountBarriers counts the barriers in the Log, of all clients. Like any read, it waits
// for the server until ctx ends.
func (adm Admin) CountBarriers(ctx context.Context) (uint64, error) {
	return adm.c.log.CountBarriers(ctx)
}

// Fence returns nil when everything published before it is stored. The Log processes
// messages in turn, so it answers Fence's message, which asks for a position that no Log
// has, after those before it. Fence stores nothing. A Log that is stuck does not answer.
func (adm Admin) Fence(ctx context.Context) error { return adm.c.log.Fence(ctx) }

// Damaged returns the known damage to the Log, by the node whose copy is damaged; "" is a
// single host. It is as of the last answer about the Log's state.
func (adm Admin) Damaged() map[string][]event.Range { return adm.c.log.Damaged() }
