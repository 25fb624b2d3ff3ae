package wire

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// headerBusy is the header of a host's answer to a question for which it has no room: ask
// again after this many milliseconds. To a program that does not know the header, the
// answer is unreadable.
const headerBusy = "Ds-Busy"

// EncodeBusy composes that answer. retry is at least a millisecond.
func EncodeBusy(retry time.Duration) *nats.Msg {
	ms := strconv.FormatInt(max(1, retry.Milliseconds()), 10)
	return &nats.Msg{Header: nats.Header{headerBusy: []string{ms}}, Data: []byte("busy, retry after " + ms + " ms")}
}

// busyMost bounds the delay that a host may ask for.
const busyMost = 10 * time.Second

// Busy reports whether an answer is one of EncodeBusy, and after what time to ask again.
func Busy(m *nats.Msg) (retry time.Duration, busy bool) {
	v := m.Header[headerBusy]
	if len(v) == 0 {
		return 0, false
	}
	ms, err := strconv.ParseInt(v[0], 10, 64)
	if err != nil || ms <= 0 || ms > busyMost.Milliseconds() {
		return busyMost, true
	}
	return time.Duration(ms) * time.Millisecond, true
}

// Intake queues questions while there is room, and answers the others as busy. A
// subscription with a channel would drop them without an answer, and print that to
// standard error.
func Intake(line chan<- *nats.Msg, retry time.Duration) nats.MsgHandler {
	return func(m *nats.Msg) {
		select {
		case line <- m:
		default:
			_ = m.RespondMsg(EncodeBusy(retry)) // whoever asked has gone, or asks again
		}
	}
}
