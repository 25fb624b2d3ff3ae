package wire

import (
	"maps"
	"strconv"

	"github.com/nats-io/nats.go"

	"durablestream/event"
)

// Batch composes the messages of one atomic batch, one after the other and in the same
// memory: each message is valid until the next call.
type Batch struct {
	sent   int
	id     []string
	msg    nats.Msg
	values [4]string // of msg's headers, which are the same for every event
	typ    string    // of msg
	stream string
}

// The places of values.
const (
	valueID = iota
	valueActor
	valueCorrelation
	valueSequence
)

// NewBatch begins a batch under an id of its own, of at most 64 bytes.
func NewBatch(id string) *Batch {
	b := &Batch{id: []string{id}}
	b.msg.Header = nats.Header{
		HeaderBatchID:       b.id,
		HeaderID:            b.values[valueID : valueID+1 : valueID+1],
		HeaderActor:         b.values[valueActor : valueActor+1 : valueActor+1],
		HeaderCorrelation:   b.values[valueCorrelation : valueCorrelation+1 : valueCorrelation+1],
		HeaderBatchSequence: b.values[valueSequence : valueSequence+1 : valueSequence+1],
	}
	return b
}

// Event encodes the next event of the batch; commit marks the last one.
func (b *Batch) Event(r *event.Recorded, commit bool) *nats.Msg {
	m := &b.msg
	if b.typ != r.Type || b.stream != r.StreamID { // events of a batch are often of one kind
		b.typ, b.stream = r.Type, r.StreamID
		m.Subject = EventSubject(r.Type, r.StreamID)
	}
	b.values[valueID] = HeaderValue(r.ID)
	b.values[valueActor] = HeaderValue(r.Actor)
	b.values[valueCorrelation] = HeaderValue(r.CorrelationID)
	b.values[valueSequence] = b.next()
	if r.Guard != "" {
		m.Header[HeaderGuard] = []string{r.Guard}
	} else {
		delete(m.Header, HeaderGuard)
	}
	if commit {
		m.Header[HeaderBatchCommit] = []string{"1"}
	}
	m.Data = r.AppendBody(m.Data[:0])
	return m
}

// Message is the next message of the batch made of one that is composed already, which
// stays as it is.
func (b *Batch) Message(m *nats.Msg, commit bool) *nats.Msg {
	out := &nats.Msg{Subject: m.Subject, Data: m.Data, Header: make(nats.Header, len(m.Header)+3)}
	maps.Copy(out.Header, m.Header)
	out.Header[HeaderBatchID] = b.id
	out.Header[HeaderBatchSequence] = []string{b.next()}
	if commit {
		out.Header[HeaderBatchCommit] = []string{"1"}
	}
	return out
}

func (b *Batch) next() string {
	b.sent++
	return strconv.Itoa(b.sent)
}

// OpenBatch reports whether a stored message belongs to an atomic batch and does not
// commit it, and its number in the batch, from 1. A reader must not deliver it before the
// batch's last message: see package client.
func OpenBatch(h nats.Header) (n uint64, open bool) {
	if len(h[HeaderBatchID]) == 0 || len(h[HeaderBatchCommit]) > 0 {
		return 0, false
	}
	at := h[HeaderBatchSequence]
	if len(at) == 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(at[0], 10, 64)
	return n, err == nil && n > 0
}
