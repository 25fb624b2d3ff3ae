package broker

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"durablestream/internal/engine"
	"durablestream/internal/roles"
	"durablestream/internal/wire"
)

// gate takes in what agents and operators publish on a node with keys: their accounts'
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
type gate struct {
	nc    *nats.Conn
	sub   *nats.Subscription
	name  string
	most  int    // messages that wait; one on top is refused
	inbox string // where the engine answers, before the reply of who published: it refuses such a reply itself
}

// gated tells whether keys publish by way of the gate.
func (c Config) gated() bool { return c.Cluster != nil && len(c.Keys) > 0 && !c.AnyHeaders }

// startGate begins to take in.
func (b *Broker) startGate() error {
	if !b.cfg.gated() {
		return nil
	}
	log := b.cfg.Logger
	nc, err := b.Connect(nats.Name("dstream gate"), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { // such as headers that cannot be read
			log.Debug("the gate of this node", "err", err)
		}))
	if err != nil {
		return err
	}
	g := &gate{nc: nc, name: b.cfg.gate, most: cmp.Or(b.cfg.gateMost, engine.MostWaiting), inbox: nc.NewInbox() + "."}
	b.gate = g
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
		return fmt.Errorf("broker: cannot take in what keys publish: %w", err)
	}
	return nil
}

// imported is how the reply of a message begins that came through an import. No other one is
// answered: in the account of the Log an answer can do anything.
const imported = "_R_."

// longestLine bounds a subject and its reply. On a longer line the server would end the gate's
// connection.
const longestLine = server.MAX_CONTROL_LINE_SIZE - 64

func (g *gate) take(m *nats.Msg) {
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
func (g *gate) refuse(m *nats.Msg, answer []byte) {
	if strings.HasPrefix(m.Reply, imported) {
		_ = g.nc.Publish(m.Reply, answer) // an error is a lost connection: the publisher asks again
	}
}

// answer passes on what the engine answers.
func (g *gate) answer(m *nats.Msg) {
	_ = g.nc.PublishMsg(&nats.Msg{Subject: strings.TrimPrefix(m.Subject, g.inbox), Header: m.Header, Data: m.Data})
}

func (b *Broker) stopGate() {
	if b.gate != nil {
		b.gate.nc.Close()
	}
}
