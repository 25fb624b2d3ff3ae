package logio

import (
	"errors"
	"fmt"

	"durablestream/event"
	"durablestream/internal/wire"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// verdict is the meaning of a failed publish for the event.
type verdict int

const (
	unsure    verdict = iota // it may be stored, or still be on its way
	notStored                // certainly not stored: retry
	refused                  // certainly not stored, and a retry cannot succeed
	wrongLast                // the expected Sequence was not the last one
	duplicate                // the engine knows an id in the batch already
)

// judge classifies the server's error answers. Everything that is not an answer is
// unsure.
func judge(err error) (verdict, error) {
	if errors.Is(err, nats.ErrMaxPayload) { // by this process; the server's limit has changed
		return refused, err
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return unsure, err
	}
	switch api.ErrorCode {
	case wire.CodeDiskFull, wire.CodeNoResources, wire.CodeStorageFull:
		return refused, diskError(api)
	case wire.CodeWrongLast:
		return wrongLast, err
	case wire.CodeWrongLastInFlight, wire.CodeDuplicateInFlight, wire.CodeBatchInFlight, wire.CodeBatchIncomplete:
		return notStored, err
	case wire.CodeBatchDuplicate:
		return duplicate, err
	}
	if api.Code >= 500 {
		return unsure, err
	}
	return refused, &event.RefusedError{Code: int(api.ErrorCode), Reason: api.Description}
}

// diskError is a host's refusal because it cannot write to its disk.
func diskError(api *jetstream.APIError) error {
	switch api.Code {
	case wire.StatusReadOnly:
		return event.ErrDiskReadOnly
	case wire.StatusTorn:
		return fmt.Errorf("%w: %s", event.ErrTornBatch, api.Description)
	}
	return fmt.Errorf("%w (%s)", event.ErrDiskFull, api.Description)
}
