package broker

import (
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/internal/wire"
)

const (
	// findWaiting and checkWaiting are how many questions of each kind a host keeps waiting.
	// One on top is answered at once: busy, ask again after findRetry or checkRetry. (A check
	// answers all that wait.)
	findWaiting  = 1024
	checkWaiting = 1024
	findRetry    = 100 * time.Millisecond
	checkRetry   = 250 * time.Millisecond
)

// intake puts questions into a line while there is room. A subscription with a channel would
// drop the others without a word to who asked, and print that to standard error.
func intake(line chan<- *nats.Msg, retry time.Duration) nats.MsgHandler {
	return func(m *nats.Msg) {
		select {
		case line <- m:
		default:
			_ = m.RespondMsg(wire.EncodeBusy(retry)) // whoever asked has gone, or asks again
		}
	}
}
