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

	"durablestream/internal/wire"
)

// door lets in who has the token, until it is shut.
type door struct {
	token string
	shut  atomic.Bool
}

// Check is asked by the server for each connection, once it is on the server's list.
func (d *door) Check(c server.ClientAuthentication) bool {
	return !d.shut.Load() && subtle.ConstantTimeCompare([]byte(c.GetOpts().Token), []byte(d.token)) == 1
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
	return b.fence(ctx)
}

// cutOff ends all connections but our own and keep, and lets nobody in any more.
func (b *Broker) cutOff(ctx context.Context, keep ...*nats.Conn) error {
	// Who dialled before and was let in is on the list below; who is not yet let in,
	// never is. (With keys the server itself lets in, and a late one may slip through.)
	if door, ok := b.opts.CustomClientAuthentication.(*door); ok {
		door.shut.Store(true)
	}
	own := map[uint64]bool{}
	for _, nc := range append(keep, b.admin) {
		if id, err := nc.GetClientID(); err == nil {
			own[id] = true
		}
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		others, err := b.disconnect(own)
		if err != nil {
			return err
		}
		if others == 0 {
			break
		}
		select { // some are on their way out, and one may have dialled just before
		case <-ctx.Done():
			return fmt.Errorf("broker: %d connections do not end: %w", others, ctx.Err())
		case <-tick.C:
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
	m := nats.NewMsg(wire.GuardSubject(wire.GuardBarrier, "fence"))
	m.Header.Set(wire.HeaderExpectedLast, "9223372036854775807")
	_, err := b.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	var refused *jetstream.APIError
	if errors.As(err, &refused) {
		return nil
	}
	return fmt.Errorf("broker: a fence was not answered with a refusal: %w", err)
}
