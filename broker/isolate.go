package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/internal/joined"
	"durablestream/internal/redirect"
)

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
	acc, err := b.logAccount()
	if err != nil {
		return err
	}
	if err := redirect.Divert(acc); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if err := redirect.Settle(ctx, b.js); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// cutOff ends all connections but our own and keep, and lets nobody in any more.
func (b *Broker) cutOff(ctx context.Context, keep ...*nats.Conn) error {
	// A process that dialled before and was let in is on the list of connections; one that is
	// not yet let in, never is. (With keys the server itself lets in, and a late one may slip
	// through.)
	if entry, ok := b.opts.CustomClientAuthentication.(*joined.Entry); ok {
		entry.Shut()
		b.log.Ending()
	}
	keep = append(keep, b.admin)
	if b.gate != nil {
		keep = append(keep, b.gate.Conn())
	}
	if err := joined.CutOff(ctx, b.server, keep...); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// Joining reports whether a process that joined within the last while is still connected.
// A host with keys reports false: it does not know its own connections by their user.
func (b *Broker) Joining(within time.Duration) bool { return joined.Within(b.server, within) }
