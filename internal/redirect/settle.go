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
	settleLooks = 5 // in a row that find the same
)

// fenceSubject is where fence publishes.
var fenceSubject = wire.GuardSubject(event.GuardBarrier, "fence")

// Divert leads everything that is published to the Log nowhere for good, but for the fence of
// Settle: the server may still be reading what a connection sent before it was ended.
func Divert(acc *server.Account) error {
	err := acc.AddMapping(fenceSubject, fenceSubject) // before the wildcards: the first that fits counts
	if err == nil {
		err = leadTo(acc, Refused)
	}
	if err != nil {
		return fmt.Errorf("cannot end the taking of appends: %w", err)
	}
	return nil
}

// Settle returns when the Log stands still. A publish that the server had in hand
// when it was diverted is stored behind a fence all the same: nothing tells when the
// server has let go of a connection, but it takes no longer than it takes to run.
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
		if err := wait.For(ctx, settleLook); err != nil { // as long after each look, whatever that took
			return fmt.Errorf("the log does not come to rest: %w", err)
		}
	}
	return nil
}

// fence returns when what was published before it is stored: the Log takes messages
// in turn, and answers this one, which asks for a position that no Log has, after
// those before it. Nothing is stored.
func fence(ctx context.Context, js jetstream.JetStream) error {
	m := nats.NewMsg(fenceSubject)
	m.Header.Set(wire.HeaderExpectedLast, "9223372036854775807")
	_, err := js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	var refused *jetstream.APIError
	if errors.As(err, &refused) {
		return nil // or diverted, by the disk watch: then nothing is stored either
	}
	return fmt.Errorf("a fence was not answered with a refusal: %w", err)
}
