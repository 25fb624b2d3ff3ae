package broker

import (
	"cmp"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"durablestream/internal/engine"
)

// CheckEngine returns an error if this program does not know the store files of the
// nats-server that it carries. A broker then neither checks its store for damage nor
// indexes it: it could report healthy files as damaged. Everything else works.
func CheckEngine() error { return engine.Check(cmp.Or(engine.Pretend, server.VERSION)) }

// engineKnown reports that CheckEngine returns no error.
func engineKnown() bool { return CheckEngine() == nil }

// answerUnchecked answers readers that ask what a check of the store has found: nothing is
// checked, and they need not wait.
func (b *Broker) answerUnchecked(subject string) error {
	_, err := b.admin.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte("[]")) }) // whoever asked has gone, or asks again
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}
