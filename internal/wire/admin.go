package wire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrRestoring is a Log whose restore was begun and did not end.
var ErrRestoring = errors.New("the log is half restored: run dstream restore again to finish it")

// LogWant is what a Log must be for whoever opens it.
type LogWant struct {
	Replicas  int           // at least; 0: any number
	Window    time.Duration // of duplicates, at least; 0: the default
	Restoring bool          // it may be half restored
}

// FindLog reads the Log's configuration and checks it. Its errors:
// jetstream.ErrStreamNotFound, *NewerFormatError, *WeakLogError and ErrRestoring.
func FindLog(ctx context.Context, js jetstream.JetStream, want LogWant) (jetstream.StreamConfig, error) {
	s, err := js.Stream(ctx, LogName)
	if err != nil {
		return jetstream.StreamConfig{}, fmt.Errorf("cannot read the Log's configuration: %w", err)
	}
	cfg := s.CachedInfo().Config
	err = CheckLog(cfg, want.Window)
	if err == nil {
		err = CheckReplicas(cfg, want.Replicas)
	}
	if err == nil && IsRestoring(cfg) && !want.Restoring {
		err = ErrRestoring
	}
	return cfg, err
}

// CreateLog makes the Log where there is none. It is no error that another has made
// it meanwhile, as it likes: FindLog checks that.
func CreateLog(ctx context.Context, js jetstream.JetStream, replicas int, window time.Duration) error {
	_, err := js.CreateStream(ctx, LogConfig(replicas, window))
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("cannot create the Log: %w", err)
	}
	return nil
}

// RecreateLog makes the Log again with its first Sequence at first, which only an
// empty Log allows. It is for a restore. A crash in between leaves no Log: opening it
// to write makes it. ready is called between the removal and the creation; nil: there is
// nothing to do.
func RecreateLog(ctx context.Context, js jetstream.JetStream, first uint64, ready func() error) error {
	s, err := js.Stream(ctx, LogName)
	if err != nil {
		return fmt.Errorf("cannot read the Log's configuration: %w", err)
	}
	info := s.CachedInfo()
	if info.State.Msgs != 0 {
		return fmt.Errorf("the Log holds %d messages and is not made again", info.State.Msgs)
	}
	cfg := info.Config
	cfg.FirstSeq = first
	if err := js.DeleteStream(ctx, LogName); err != nil {
		return fmt.Errorf("cannot remove the empty Log, to make it again: %w", err)
	}
	if ready != nil {
		if err := ready(); err != nil {
			return err
		}
	}
	for { // the nodes of a cluster remove it one after the other
		_, err := js.CreateStream(ctx, cfg)
		if err == nil {
			return nil
		}
		var api *jetstream.APIError
		if errors.As(err, &api) && api.Code < 500 && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return fmt.Errorf("cannot create the Log at %d: %w", first, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot create the Log at %d: %w (%w)", first, err, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
