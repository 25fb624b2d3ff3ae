package broker

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"durablestream/internal/wire"
)

// gate takes in what agents and operators publish on a node with keys: their accounts'
// imports lead to it, and not to the Log's own subjects. It refuses messages with headers
// that no client of this project sends, and publishes the rest in the account of the Log.
//
// Safety. The imports lead nowhere else, so nothing gets past it. Each node's
// gate has a name of its own, so one goroutine of the publisher's own node passes on what a connection has sent, in the order in which it was sent. Batches need
// that order. A refused message of a batch leaves a hole, for which the engine refuses the
// commit.
//
// Liveness. The engine does not take the reply of an import from a client, so it answers to
// the gate, whose inbox has that reply as its end. The gate keeps no state: an answer that is
// lost with a node is an outcome that the publisher does not know, as it was before.
type gate struct {
	nc    *nats.Conn
	name  string
	inbox string // where the engine answers, before the reply of who published: it refuses such a reply itself
}

// gated tells whether keys publish by way of the gate.
func (c Config) gated() bool { return c.Cluster != nil && len(c.Keys) > 0 && c.CheckHeaders }

// startGate begins to take in.
func (b *Broker) startGate() error {
	if !b.cfg.gated() {
		return nil
	}
	nc, err := b.Connect(nats.Name("dstream gate"))
	if err != nil {
		return err
	}
	b.gate = &gate{nc, b.cfg.gate, nc.NewInbox() + "."}
	if _, err := nc.Subscribe(b.gate.inbox+">", b.gate.answer); err != nil {
		return fmt.Errorf("broker: cannot take in what keys publish: %w", err)
	}
	sub, err := nc.Subscribe(wire.GateSubject(b.cfg.gate, ">"), b.gate.take)
	if err == nil {
		err = sub.SetPendingLimits(-1, -1) // the server bounds what it owes to one connection
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

func (g *gate) take(m *nats.Msg) {
	if refusal := wire.CheckGate(m.Header); refusal != nil {
		if strings.HasPrefix(m.Reply, imported) {
			_ = g.nc.Publish(m.Reply, refusal) // an error is a lost connection, which the asker notices itself
		}
		return // of a batch: its commit is refused, since a member is missing
	}
	reply := ""
	if strings.HasPrefix(m.Reply, imported) {
		reply = g.inbox + m.Reply
	}
	_ = g.nc.PublishMsg(&nats.Msg{Subject: wire.FromGate(g.name, m.Subject), Reply: reply, Header: m.Header, Data: m.Data})
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
