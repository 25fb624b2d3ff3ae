package redirect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

const (
	settleLook  = 10 * time.Millisecond
	settleLooks = 5 // looks in a row with the same last Sequence
)

// fenceSubject is the subject on which fence publishes.
var fenceSubject = wire.GuardSubject(event.GuardBarrier, "fence")

// Divert leads all appends away from the Log for good; only the fence of Settle still reaches
// it. Call Divert although all connections have ended: the server may still be reading the last
// messages of one.
func Divert(acc *server.Account) error {
	err := acc.AddMapping(fenceSubject, fenceSubject) // before the wildcards, because the first mapping that matches counts
	if err == nil {
		err = leadTo(acc, Refused)
	}
	if err != nil {
		return fmt.Errorf("cannot end the taking of appends: %w", err)
	}
	return nil
}

// Settle returns when the Log has the same last Sequence for settleLooks looks in a row. One
// fence is not enough: the server may store a message that it was just handling behind the
// fence, and it reports nothing when it is done with a connection.
func Settle(ctx context.Context, js jetstream.JetStream) error {
	var was uint64
	for same := 0; same < settleLooks; {
		if err := fence(ctx, js); err != nil {
			return err
		}
		s, err := js.Stream(ctx, wire.LogName)
		if err != nil {
			return err
		}
		if now := s.CachedInfo().State.LastSeq; now != was {
			was, same = now, 0
		} else {
			same++
		}
		if err := wait.For(ctx, settleLook); err != nil { // a full pause, also after a slow look
			return fmt.Errorf("the log does not come to rest: %w", err)
		}
	}
	return nil
}

// fence returns when all earlier messages are stored. It publishes a message that expects a
// position that no Log has. The Log handles messages in order, so it refuses this one after it
// has stored those before it.
func fence(ctx context.Context, js jetstream.JetStream) error {
	m := nats.NewMsg(fenceSubject)
	m.Header.Set(wire.HeaderExpectedLast, "9223372036854775807")
	_, err := js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	var refused *jetstream.APIError
	if errors.As(err, &refused) {
		return nil // by the Log, or by the disk watch, which stores nothing either
	}
	return fmt.Errorf("a fence was not answered with a refusal: %w", err)
}
