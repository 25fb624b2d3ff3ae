package broker

import (
	"context"
	"errors"
	"fmt"
)

// Stop withdraws the address, shuts the server down so that all that was acknowledged is on
// disk, and frees the lock, in this order: the process that gets the lock finds a store that
// no server writes to.
//
// Where ctx ends first, Stop returns its error, and the shutdown continues: the lock is held
// until the server has ended, and another call of Stop waits for that. A shutdown that was
// begun cannot be called off. Stop may be called more than once, and calls may overlap; each
// returns the error of the one shutdown.
func (b *Broker) Stop(ctx context.Context) error {
	b.stopOnce.Do(func() {
		b.stopped = make(chan struct{})
		go func() {
			defer close(b.stopped)
			b.stopErr = b.shutdown()
		}()
	})
	select {
	case <-b.stopped:
		return b.stopErr
	case <-ctx.Done():
	}
	select {
	case <-b.stopped: // both have happened
		return b.stopErr
	default:
		return fmt.Errorf("broker: the host of %s is still stopping, and holds the lock until it has: %w", b.cfg.Dir, ctx.Err())
	}
}

// shutdown is Stop's work. A crash in between frees the lock and leaves a store as a kill
// does.
func (b *Broker) shutdown() error {
	err := b.withdraw()
	b.telling.End()
	if b.prover != nil {
		b.prover.Stop()
	}
	if b.finder != nil {
		b.finder.Stop()
	}
	if b.scrub != nil {
		b.scrub.Stop()
	}
	if b.copy != nil {
		b.copy.Stop()
	}
	if b.disk != nil {
		b.disk.Stop()
	}
	if b.gate != nil {
		b.gate.Stop()
	}
	if b.admin != nil {
		b.admin.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	if b.scrub != nil && b.present() {
		if err := b.scrub.Keep(); err != nil {
			b.cfg.Logger.Warn("what was checked of the store is checked again at the next start", "err", err)
		}
	}
	if b.server != nil && b.present() {
		b.keepConfig()
	}
	if b.store != nil {
		_ = b.store.Close() // it was only looked at
	}
	return errors.Join(err, b.unlock())
}
