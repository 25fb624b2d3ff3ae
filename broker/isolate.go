package broker

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/roles"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

// door lets in who has a token, until it is shut.
type door struct {
	own    string // of the host's own connections
	joined string // in the address file
	shut   atomic.Bool
}

// Check is asked by the server for each connection, once it is on the server's list.
func (d *door) Check(c server.ClientAuthentication) bool {
	has := func(token string) bool {
		return subtle.ConstantTimeCompare([]byte(c.GetOpts().Token), []byte(token)) == 1
	}
	switch {
	case d.shut.Load():
		return false
	case has(d.own):
		return true
	case !has(d.joined):
		return false
	}
	// One request by mistake, such as an update of the stream's max_age, would delete the
	// Log. This stops mistakes: a reply that is led to such a request is malice, and takes
	// keys to stop.
	c.RegisterUser(&server.User{Username: roles.JoinedUser, Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Deny: roles.HostOnly()},
	}})
	return true
}

// Isolate ends the use of this broker by others and returns when what they had
// published is stored: the Log's position is then its last, but for what the owners
// of the connections in keep append. It is what an orderly host does before its
// mirror writes the end, since the last process to use the log may have been a
// joined one, and then nobody comes to write what it appended.
func (b *Broker) Isolate(ctx context.Context, keep ...*nats.Conn) error {
	if err := b.withdraw(); err != nil {
		return err
	}
	if err := b.cutOff(ctx, keep...); err != nil {
		return err
	}
	if err := b.divert(); err != nil {
		return err
	}
	return b.settle(ctx)
}

const (
	settleLook  = 10 * time.Millisecond
	settleLooks = 5 // in a row that find the same
)

// settle returns when the Log stands still. A publish that the server had in hand
// when it was diverted is stored behind a fence all the same: nothing tells when the
// server has let go of a connection, but it takes no longer than it takes to run.
func (b *Broker) settle(ctx context.Context) error {
	var was uint64
	for same := 0; same < settleLooks; {
		if err := b.fence(ctx); err != nil {
			return err
		}
		s, err := b.js.Stream(ctx, wire.LogName)
		if err != nil {
			return fmt.Errorf("broker: %w", err)
		}
		if now := s.CachedInfo().State.LastSeq; now != was {
			was, same = now, 0
		} else {
			same++
		}
		if err := wait.For(ctx, settleLook); err != nil { // as long after each look, whatever that took
			return fmt.Errorf("broker: the log does not come to rest: %w", err)
		}
	}
	return nil
}

// fenceSubject is where fence publishes.
var fenceSubject = wire.GuardSubject(event.GuardBarrier, "fence")

// divert leads everything that is published to the Log nowhere, but for the fence: the
// server may still be reading what a connection sent before it was ended.
func (b *Broker) divert() error {
	acc, err := b.logAccount()
	if err == nil {
		err = acc.AddMapping(fenceSubject, fenceSubject) // before the wildcards: the first that fits counts
	}
	for _, subject := range []string{wire.AllEvents, wire.AllGuards} {
		if err == nil {
			err = acc.AddMapping(subject, refused+subject)
		}
	}
	if err != nil {
		return fmt.Errorf("broker: cannot end the taking of appends: %w", err)
	}
	return nil
}

// cutOff ends all connections but our own and keep, and lets nobody in any more.
func (b *Broker) cutOff(ctx context.Context, keep ...*nats.Conn) error {
	// Who dialled before and was let in is on the list below; who is not yet let in,
	// never is. (With keys the server itself lets in, and a late one may slip through.)
	if door, ok := b.opts.CustomClientAuthentication.(*door); ok {
		door.shut.Store(true)
		b.log.ending.Store(true)
	}
	own := map[uint64]bool{}
	if b.gate != nil {
		keep = append(keep, b.gate.Conn())
	}
	for _, nc := range append(keep, b.admin) {
		if id, err := nc.GetClientID(); err == nil {
			own[id] = true
		}
	}
	for {
		others, err := b.disconnect(own)
		if err != nil {
			return err
		}
		if others == 0 {
			break
		}
		// Some are on their way out, and one may have dialled just before.
		if err := wait.For(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("broker: %d connections do not end: %w", others, err)
		}
	}
	return nil
}

// disconnect ends all connections but our own, and tells how many there were.
func (b *Broker) disconnect(own map[uint64]bool) (others int, err error) {
	conns, err := b.server.Connz(&server.ConnzOptions{Limit: 1 << 20})
	if err != nil {
		return 0, fmt.Errorf("broker: cannot list the connections: %w", err)
	}
	for _, c := range conns.Conns {
		if !own[c.Cid] {
			others++
			_ = b.server.DisconnectClientByID(c.Cid) // it may have gone meanwhile
		}
	}
	return others, nil
}

// fence returns when what was published before it is stored: the Log takes messages
// in turn, and answers this one, which asks for a position that no Log has, after
// those before it. Nothing is stored.
func (b *Broker) fence(ctx context.Context) error {
	m := nats.NewMsg(fenceSubject)
	m.Header.Set(wire.HeaderExpectedLast, "9223372036854775807")
	_, err := b.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	var refused *jetstream.APIError
	if errors.As(err, &refused) {
		return nil // or diverted, by the disk watch: then nothing is stored either
	}
	return fmt.Errorf("broker: a fence was not answered with a refusal: %w", err)
}
