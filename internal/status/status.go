// Package status reports the host of a log, the log's position, and what is wrong with it.
package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/internal/place"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
	"durablestream/mirror"
	"durablestream/projection"
)

// Answer is what `status --json` prints. docs/operations.md explains it
// field by field; scripts rely on the names.
type Answer struct {
	Dir      string    `json:"dir,omitempty"`
	Worktree *Worktree `json:"worktree,omitempty"` // the log is that of a linked git work tree alone
	Servers  []string  `json:"servers,omitempty"`
	Running  bool      `json:"running"`           // somebody hosted before this command
	Stopped  bool      `json:"stopped,omitempty"` // by a signal: nothing else is known then
	// Unreadable: the Log does not answer, and only what hosts say of themselves is known.
	Unreadable bool        `json:"unreadable,omitempty"`
	Role       client.Role `json:"role,omitempty"` // of the key that asked; absent without roles
	Host       *Host       `json:"host,omitempty"`
	Cluster    string      `json:"cluster,omitempty"`
	Leader     string      `json:"leader,omitempty"`
	Nodes      []Node      `json:"nodes,omitempty"`  // of a cluster
	Silent     []string    `json:"silent,omitempty"` // of Servers: they do not answer
	// These are nil where they are not known.
	Position *event.Sequence    `json:"position,omitempty"`
	First    *event.Sequence    `json:"first,omitempty"`
	Messages *uint64            `json:"messages,omitempty"`
	Missing  *uint64            `json:"missing,omitempty"`
	Bytes    *uint64            `json:"bytes,omitempty"`
	Barriers *uint64            `json:"barriers,omitempty"`   // linearizable reads that were stored
	Lag      *uint64            `json:"mirror_lag,omitempty"` // Sequences that the mirror has not dealt with
	Mirror   string             `json:"mirror,omitempty"`
	Alarms   []Alarm            `json:"alarms"`
	SetAside []projection.Aside `json:"set_aside,omitempty"` // what no projection can read
}

// Worktree says that a linked work tree has a log of its own.
type Worktree struct {
	Name     string `json:"name"`
	Shared   string `json:"shared,omitempty"`   // the directory of the log that it would use without
	Unlinked string `json:"unlinked,omitempty"` // where its file .git leads, which does not point back
	words    string // of Unlinked
}

// Node is a node of a cluster: what the Log's leader says of its replica, and
// what it says of itself.
type Node struct {
	Name    string          `json:"name"`
	Replica *client.Replica `json:"replica,omitempty"`    // absent: it has none
	Host    *Host           `json:"host,omitempty"`       // absent: it tells nothing of itself
	Silent  bool            `json:"silent,omitempty"`     // it does not answer at all
	Lag     *uint64         `json:"mirror_lag,omitempty"` // of its own mirror; nil: not known
}

// Config says which log is asked about, and how it is opened.
type Config struct {
	Dir     string // of the log
	Servers []string
	NKey    string
	TLS     client.TLSFiles
	// Open opens the log without starting a mirror or a sweeper.
	Open func() (*durablestream.DurableStream, error)
	Wait time.Duration // for the answers of the open log
}

// Ask asks the log, its host or its nodes. What cannot be read is an alarm of the Answer.
func Ask(ctx context.Context, cfg Config) (a Answer, err error) {
	a = Answer{Alarms: []Alarm{}, Servers: cfg.Servers}
	if len(cfg.Servers) == 0 {
		if err := place.AsOwner(cfg.Dir); err != nil {
			return a, err
		}
		if err := place.Demand(cfg.Dir); err != nil {
			return a, err
		}
		if a.Dir, err = filepath.Abs(cfg.Dir); err != nil {
			return a, err
		}
		if shared, name := place.SharedLog(cfg.Dir); shared != "" {
			a.Worktree = &Worktree{Name: name, Shared: shared}
		} else if words, u := place.Unlinked(cfg.Dir); words != "" {
			a.Worktree = &Worktree{Name: filepath.Base(u.GitDir), Unlinked: u.GitDir, words: words}
		}
		if a.stopped() {
			return a, nil
		}
	}
	defer func() {
		if err != nil {
			err = a.unreadable(ctx, cfg, err)
		}
	}()
	d, err := cfg.Open()
	if err != nil {
		return a, err
	}
	defer func() {
		if cerr := d.Close(); err == nil {
			err = cerr
		}
	}()
	brief, cancel := context.WithTimeout(ctx, cfg.Wait)
	defer cancel()
	return a, a.ask(brief, d)
}

// stopped looks for a host that was stopped by a signal: it answers nobody, and
// nobody can take over, so there is no use in asking.
func (a *Answer) stopped() bool {
	host, err := address.Read(broker.AddressPath(filepath.Join(a.Dir, durablestream.HostDir)))
	if err != nil || !address.Stopped(address.Holder(filepath.Join(a.Dir, durablestream.HostDir), host.PID)) {
		return false
	}
	a.Running, a.Stopped = true, true
	a.Host = &Host{stopped: true, HostStatus: broker.HostStatus{PID: host.PID, Since: event.Milli(host.Since), Version: host.Version, Endpoint: host.URL}}
	_, err = os.Stat(filepath.Join(a.Dir, durablestream.HostDir, broker.ManagedFile))
	a.Alarms = append(a.Alarms, stoppedAlarm(host.PID, err == nil))
	return true
}

// maxNodes is more than any cluster has.
const maxNodes = 32

// ask fills in what an open log tells.
func (a *Answer) ask(ctx context.Context, d *durablestream.DurableStream) error {
	a.Running, a.Role = !d.Hosting(), d.Admin().Role()
	state, err := d.Admin().State(ctx)
	if err != nil {
		return err
	}
	a.log(state)
	if len(a.Servers) == 0 {
		a.Mirror = durablestream.MirrorPath(a.Dir)
	}
	if a.Running {
		if state, err = a.askRunning(ctx, d, state); err != nil {
			return err
		}
	} else {
		// This process has the lock, so the disk is its own to look at.
		h, err := d.Admin().HostStatus(ctx)
		if err != nil {
			return err
		}
		if why := d.Admin().Copied(); why != nil {
			a.Alarms = append(a.Alarms, Alarm{Name: AlarmReadOnly, Message: TemporaryWords(why)})
		} else {
			a.Alarms = append(a.Alarms, hostAlarms(h)...)
		}
		if err := mirror.Check(ctx, mirror.Config{Client: d.Client(), Dir: a.Dir}); err != nil {
			a.Alarms = append(a.Alarms, Alarm{Name: AlarmMismatch, Message: "no host can start: " + err.Error()})
		}
	}
	// What the log holds cannot be told where it is damaged, which is an alarm already.
	var damage *client.DamageError
	barriers, err := d.Admin().CountBarriers(ctx)
	if err != nil && !errors.As(err, &damage) {
		return err
	}
	if err == nil {
		a.Barriers = &barriers
	}
	resume, err := d.Resume(ctx)
	if err != nil && !errors.As(err, &damage) {
		return err
	}
	a.SetAside = resume.SetAside
	a.Alarms = append(a.Alarms, logAlarms(state)...)
	a.Alarms = append(a.Alarms, markAlarms(d.Admin().Damaged(), a.Alarms)...)
	if damage != nil && !slices.ContainsFunc(a.Alarms, func(x Alarm) bool { return x.Name == AlarmDamaged || x.Name == AlarmMissing }) {
		a.Alarms = append(a.Alarms, Alarm{Name: AlarmDamaged, Message: damage.Error()})
	}
	return nil
}

func (a *Answer) log(s client.State) {
	a.Position, a.First, a.Messages, a.Missing, a.Bytes = &s.Last, &s.First, &s.Messages, &s.Missing, &s.Bytes
}

// askRunning asks the host, or the nodes of the cluster. It returns the state as of
// its last look.
func (a *Answer) askRunning(ctx context.Context, d *durablestream.DurableStream, state client.State) (client.State, error) {
	looks := []client.State{state}
	hosts, err := askHosts(ctx, d.Admin().Conn(), max(1, len(state.Replicas)))
	if err != nil {
		return state, err
	}
	// A replica that takes an event at this moment is behind for an instant.
	for range 2 {
		if a.allCurrent(looks[len(looks)-1]) {
			break
		}
		if err := wait.For(ctx, lookAgain); err != nil {
			return state, err
		}
		if state, err = d.Admin().State(ctx); err != nil {
			return state, err
		}
		looks = append(looks, state)
	}
	a.log(state)
	a.hosts(state, hosts)
	for _, x := range replicaAlarms(a.gone, looks...) {
		if x.Name != AlarmBehind || !a.copyUnhealthy(x.Node) {
			a.Alarms = append(a.Alarms, x)
		}
	}
	return state, nil
}

// copyUnhealthy reports a node that does not catch up by itself, and has said so.
func (a *Answer) copyUnhealthy(node string) bool {
	return slices.ContainsFunc(a.Alarms, func(x Alarm) bool { return x.Name == AlarmCopy && x.Node == node })
}

// lookAgain is how long a replica that is behind has to catch up.
const lookAgain = 300 * time.Millisecond

func (a *Answer) allCurrent(s client.State) bool {
	for _, r := range s.Replicas {
		if !r.Current && !r.Offline {
			return false
		}
	}
	return true
}

// hosts puts what the hosts told where it belongs.
func (a *Answer) hosts(state client.State, hosts []broker.HostStatus) {
	for _, h := range hosts {
		for _, x := range hostAlarms(h) {
			x.Node = h.Name
			a.Alarms = append(a.Alarms, x)
		}
	}
	if state.Cluster == "" {
		if len(hosts) > 0 {
			a.Host, a.Lag = &Host{HostStatus: hosts[0]}, behind(a.Position, hosts[0])
		}
		return
	}
	a.Cluster, a.Leader = state.Cluster, state.Leader
	for _, r := range state.Replicas {
		a.Nodes = append(a.Nodes, Node{Name: r.Name, Replica: &r})
	}
	for _, h := range hosts {
		at := slices.IndexFunc(a.Nodes, func(n Node) bool { return n.Name == h.Name })
		if at < 0 {
			at = len(a.Nodes)
			a.Nodes = append(a.Nodes, Node{Name: h.Name})
		}
		a.Nodes[at].Host, a.Nodes[at].Lag = &Host{HostStatus: h}, behind(a.Position, h)
	}
	slices.SortFunc(a.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
}

// gone reports that a node does not tell its status although others do. Servers that
// are not ours tell nothing, none of them.
func (a *Answer) gone(node string) bool {
	tells := func(n Node) bool { return n.Host != nil }
	return slices.ContainsFunc(a.Nodes, tells) &&
		!slices.ContainsFunc(a.Nodes, func(n Node) bool { return n.Name == node && tells(n) })
}

// behind is how many positions a host's mirror has not dealt with; nil where that is
// not known, or it writes none.
func behind(position *event.Sequence, h broker.HostStatus) *uint64 {
	if position == nil || h.MirrorOff {
		return nil
	}
	return new(uint64(*position - min(h.MirrorSeq, *position)))
}

// moreAnswers is how long further hosts have after the first answer.
const moreAnswers = 200 * time.Millisecond

// askHosts asks every host of the Log for its status: one, or each node of a
// cluster. It waits for want answers, or for moreAnswers after the first. A server
// that is not ours answers nothing, which is no error.
func askHosts(ctx context.Context, nc *nats.Conn, want int) ([]broker.HostStatus, error) {
	inbox := nc.NewRespInbox()
	answers := make(chan *nats.Msg, maxNodes)
	sub, err := nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the host for its status: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails where the connection has ended
	if err := nc.PublishRequest(wire.StatusSubject, inbox, nil); err != nil {
		return nil, fmt.Errorf("cannot ask the host for its status: %w", err)
	}
	var hosts []broker.HostStatus
	patience := time.NewTimer(firstAnswer)
	defer patience.Stop()
	for len(hosts) < want {
		select {
		case <-ctx.Done():
			return hosts, ctx.Err()
		case <-patience.C:
			return hosts, nil
		case m := <-answers:
			if len(m.Data) == 0 && m.Header.Get("Status") != "" {
				return hosts, nil // nobody answers there
			}
			var h broker.HostStatus
			if err := json.Unmarshal(m.Data, &h); err != nil {
				return hosts, fmt.Errorf("the host's status is none: %w", err)
			}
			hosts = append(hosts, h)
			patience.Reset(moreAnswers)
		}
	}
	return hosts, nil
}
