package logio

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/internal/wire"
)

// CountBarriers counts the barriers in the Log, of all clients. Like any read, it
// waits for the server as long as ctx lasts.
func (l *Log) CountBarriers(ctx context.Context) (uint64, error) {
	var n uint64
	err := l.retry(ctx, func(ctx context.Context) error {
		s, err := l.js.Stream(ctx, wire.LogName)
		if err != nil {
			return err
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(wire.GuardFilter(wire.GuardBarrier)))
		if err != nil {
			return err
		}
		n = 0
		for _, messages := range info.State.Subjects {
			n += messages
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("client: cannot count the barriers: %w", err)
	}
	return n, nil
}
