// Package gate takes in what keys publish on a node of a cluster.
package gate

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"durablestream/internal/engine"
	"durablestream/internal/roles"
	"durablestream/internal/wire"
)

// Gate takes in what agents and operators publish on a node with keys: their accounts'
// imports lead to it, and not to the Log's own subjects. It refuses messages with headers of
// the engine's that no client of this project sends, and publishes the rest in the account of
// the Log.
//
// Safety. The imports lead nowhere else, so nothing gets past the gate. It publishes in the
// name of the host, so it takes only what a server has marked as coming from a connection of an
// agent or an operator. The answers to their requests come through the imports too, where a
// request names a subject of the Log as its reply; they are marked as others', or have a reply that
// no request has. What a push consumer delivers has no mark.
//
// Each node's gate has a name of its own and one subscription, so one goroutine of the
// publisher's own node passes on what a connection has sent, in the order in which it was sent.
// Batches need that order. A refused message of a batch leaves a hole, for which the engine
// refuses the commit.
//
// Liveness. The engine does not take the reply of an import from a client, so it answers to
// the gate, whose inbox has that reply as its end. The gate keeps no state: an answer that is
// lost with a node, or with the gate's connection, is an outcome that the publisher does not
// know, as it was before.
type Gate struct {
	nc    *nats.Conn
	sub   *nats.Subscription
	name  string
	most  int    // messages that wait; one on top is refused
	inbox string // where the engine answers, before the reply of who published: it refuses such a reply itself
}

// Connect makes the gate's connection, within the broker's process.
type Connect func(opts ...nats.Option) (*nats.Conn, error)

// Start begins to take in what is published to the gate of that name. most is how many messages
// wait there; 0: engine.MostWaiting.
func Start(name string, most int, connect Connect, log *slog.Logger) (*Gate, error) {
	nc, err := connect(nats.Name("dstream gate"), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { // such as headers that cannot be read
			log.Debug("the gate of this node", "err", err)
		}))
	if err != nil {
		return nil, err
	}
	g := &Gate{nc: nc, name: name, most: cmp.Or(most, engine.MostWaiting), inbox: nc.NewInbox() + "."}
	if _, err = nc.Subscribe(g.inbox+">", g.answer); err == nil {
		// The first message waits for the gate to be whole.
		whole := make(chan struct{})
		defer close(whole)
		g.sub, err = nc.Subscribe(wire.GateSubject(g.name, ">"), func(m *nats.Msg) { <-whole; g.take(m) })
	}
	if err == nil {
		err = g.sub.SetPendingLimits(4*engine.MostWaiting, 4*engine.MostWaitingBytes) // see take
	}
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("cannot take in what keys publish: %w", err)
	}
	return g, nil
}

// Conn is the gate's connection.
func (g *Gate) Conn() *nats.Conn { return g.nc }

// Stop ends it.
func (g *Gate) Stop() { g.nc.Close() }

// imported is how the reply of a message begins that came through an import. No other one is
// answered: in the account of the Log an answer can do anything.
const imported = "_R_."

// longestLine bounds a subject and its reply. On a longer line the server would end the gate's
// connection.
const longestLine = server.MAX_CONTROL_LINE_SIZE - 64

func (g *Gate) take(m *nats.Msg) {
	asked := strings.HasPrefix(m.Reply, imported)
	if m.Reply != "" && !asked {
		return // a message that a consumer delivers
	}
	if m.Header == nil { // a server adds one
		g.refuse(m, wire.RefuseAtGate("the headers cannot be read"))
		return
	}
	if from := wire.GateAccount(m.Header); from != roles.AgentAccount && from != roles.OperatorAccount {
		return // an answer to somebody's request
	}
	subject, ok := wire.FromGate(g.name, m.Subject)
	if !ok {
		return
	}
	// As much waits here at most as may wait in the engine.
	if n, size, err := g.sub.Pending(); err == nil && (n > g.most || size > engine.MostWaitingBytes) {
		g.refuse(m, wire.BusyGate())
		return
	}
	if refusal := wire.CheckGate(m.Header); refusal != nil {
		g.refuse(m, refusal)
		return
	}
	reply := ""
	if asked {
		reply = g.inbox + m.Reply
	}
	if len(subject)+len(reply) > longestLine {
		g.refuse(m, wire.RefuseAtGate("the subject is too long"))
		return
	}
	err := g.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Header: m.Header, Data: m.Data})
	if errors.Is(err, nats.ErrMaxPayload) { // by some bytes, since headers are written anew
		g.refuse(m, wire.RefuseAtGate(err.Error()))
	}
	// Any other error is a connection that is lost, and an outcome that the publisher does not know.
}

// refuse answers a message that is not passed on. Of a batch, the commit is refused, since a member
// is missing.
func (g *Gate) refuse(m *nats.Msg, answer []byte) {
	if strings.HasPrefix(m.Reply, imported) {
		_ = g.nc.Publish(m.Reply, answer) // an error is a lost connection: the publisher asks again
	}
}

// answer passes on what the engine answers.
func (g *Gate) answer(m *nats.Msg) {
	_ = g.nc.PublishMsg(&nats.Msg{Subject: strings.TrimPrefix(m.Subject, g.inbox), Header: m.Header, Data: m.Data})
}
