package broker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"durablestream/internal/address"
)

// EvictedError says that the directory of a host was removed, moved, or replaced
// while it hosted. What is there now, if anything, is another log.
type EvictedError struct {
	Dir string
	Now string // where the directory is by now; "": it was removed, or nobody can tell
}

func (e *EvictedError) Error() string {
	s := fmt.Sprintf("the host's directory %s was removed or replaced while this process hosted its log: it takes no more appends", e.Dir)
	if e.Now != "" {
		return s + fmt.Sprintf("; the log was moved to %s, with all that was acknowledged: start a host there (--dir %s), or move it back", e.Now, filepath.Dir(e.Now))
	}
	return s + ", and what it took since cannot be found there"
}

// evictedError says where the directory went, as far as can be seen.
func (b *Broker) evictedError() *EvictedError {
	e := &EvictedError{Dir: b.cfg.Dir}
	if now := address.PlaceOf(b.store).Now(); now != "" && filepath.Dir(now) != b.cfg.Dir {
		e.Now = filepath.Dir(now)
	}
	return e
}

// Evicted is closed when this broker can host no longer: its directory is no longer at
// its path (*EvictedError), or the end of its Log has gone from the disk
// (*DamagedError). Nobody but the owner of its in-process connections can append any
// more then; the broker is to be stopped.
func (b *Broker) Evicted() <-chan struct{} { return b.evicted }

// WhyEvicted is the error behind Evicted, once that is closed.
func (b *Broker) WhyEvicted() error { return b.whyEvicted }

// openStore keeps the store's directory open, and leads the server to it by what is
// open and not by its path: should somebody remove the directory and another host make
// a new one in its place, this server must not write a byte there, as it does when it
// stops. (Where the system has no such way, as outside of Linux, the path must do.)
func (b *Broker) openStore() error {
	dir, err := os.Open(filepath.Join(b.cfg.Dir, StoreDir))
	if err == nil {
		b.store = dir
		b.storeInfo, err = dir.Stat()
	}
	if err != nil {
		return fmt.Errorf("broker: cannot open the store: %w", err)
	}
	b.opts.StoreDir = pathOf(dir)
	return nil
}

// present reports whether the store is still at its path.
func (b *Broker) present() bool {
	now, err := os.Stat(filepath.Join(b.cfg.Dir, StoreDir))
	return err == nil && os.SameFile(now, b.storeInfo)
}

// evict cuts everybody off, once.
func (b *Broker) evict(why error) {
	b.evictOnce.Do(func() { b.cutEverybodyOff(why) })
}

func (b *Broker) cutEverybodyOff(why error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := b.cutOff(ctx); err != nil {
		b.cfg.Logger.Warn("some are still connected", "err", err)
	}
	if !b.present() { // whatever was seen of it first: its blocks go before it does
		why = b.evictedError()
	}
	b.cfg.Logger.Error("this process hosts no longer", "err", why)
	b.whyEvicted = why
	close(b.evicted)
}
