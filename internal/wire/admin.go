package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wait"
)

// ErrRestoring means that a restore of the Log was begun and did not end.
var ErrRestoring = errors.New("the log is half restored: run dstream restore again to finish it")

// LogWant is a client's requirements on a Log.
type LogWant struct {
	Replicas  int           // at least; 0: any number
	Window    time.Duration // of duplicates, at least; 0: the default
	Restoring bool          // it may be half restored
}

// FindLog reads the Log's configuration and checks it. Its errors:
// jetstream.ErrStreamNotFound, *event.NewerFormatError, *event.WeakLogError and ErrRestoring.
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

// CreateLog creates the Log if there is none. It returns no error if another client has
// created it meanwhile, with any settings: FindLog checks them.
func CreateLog(ctx context.Context, js jetstream.JetStream, replicas int, window time.Duration) error {
	_, err := js.CreateStream(ctx, LogConfig(replicas, window))
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("cannot create the Log: %w", err)
	}
	return nil
}

// RestoreSubject is the subject at which a host changes the Log's stream for a restore,
// which no other process may do. It takes a RestoreRequest and answers with a
// RestoreAnswer.
const RestoreSubject = "ds.host.restore"

// RestoreRequest asks for one of two changes.
type RestoreRequest struct {
	Mark  *bool          `json:"mark,omitempty"`  // mark the Log as half restored, or take the mark off
	First event.Sequence `json:"first,omitempty"` // make the empty Log again with this first Sequence
}

// RestoreAnswer reports whether the host has made the change.
type RestoreAnswer struct {
	Error string `json:"error,omitempty"`
}

// AskToRestore sends the request to the host. It returns false if no host answers: then
// the Log is on another server, or its host is of an earlier version, and the caller
// makes the change itself.
func AskToRestore(ctx context.Context, nc *nats.Conn, q RestoreRequest) (done bool, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return false, err
	}
	m, err := nc.RequestWithContext(ctx, RestoreSubject, body)
	if errors.Is(err, nats.ErrNoResponders) {
		return false, nil
	}
	var a RestoreAnswer
	if err == nil {
		err = json.Unmarshal(m.Data, &a)
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	return true, err
}

// MarkLog marks the Log as half restored, or removes the mark.
func MarkLog(ctx context.Context, js jetstream.JetStream, on bool) error {
	s, err := js.Stream(ctx, LogName)
	if err == nil && IsRestoring(s.CachedInfo().Config) != on {
		_, err = js.UpdateStream(ctx, MarkRestoring(s.CachedInfo().Config, on))
	}
	return err
}

// RecreateLog creates the Log again with its first Sequence at first, for a restore. It
// does so only with an empty Log. A crash in between leaves no Log; the next client that
// opens the Log to write creates it. RecreateLog calls ready, if not nil, between the
// removal and the creation.
func RecreateLog(ctx context.Context, js jetstream.JetStream, first event.Sequence, ready func() error) error {
	s, err := js.Stream(ctx, LogName)
	if err != nil {
		return fmt.Errorf("cannot read the Log's configuration: %w", err)
	}
	info := s.CachedInfo()
	if info.State.Msgs != 0 {
		return fmt.Errorf("the Log holds %d messages and is not made again", info.State.Msgs)
	}
	cfg := info.Config
	cfg.FirstSeq = uint64(first)
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
		if ended := wait.For(ctx, 50*time.Millisecond); ended != nil {
			return fmt.Errorf("cannot create the Log at %d: %w (%w)", first, err, ended)
		}
	}
}
