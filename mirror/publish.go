package mirror

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

const (
	// restoreBatch and restoreBytes bound a batch: any server accepts this by default,
	// and needs little memory for it.
	restoreBatch = 1000
	restoreBytes = 8 << 20

	restoreTimeout = 10 * time.Second // for one try of a batch
	restoreTries   = 20               // after refusals; a lost connection is waited for
)

// publisher writes messages to given Sequences, in atomic batches.
//
// Safety: the first message of a batch states the Sequence that must be the last one, so
// a batch is stored at its place or not at all, however often it is sent. After an
// attempt whose answer is an error or was lost, the Log's last Sequence shows the
// outcome: the Sequence before the batch, or the Sequence of its end with the batch's own
// last message. While the engine stores a batch, the Log shows a Sequence in between for
// a moment (the engine counts message by message, and finishes a commit that a crash
// interrupted). Any other state comes from another client.
type publisher struct {
	c  *client.Client
	nc *nats.Conn
	js jetstream.JetStream

	last  event.Sequence // of the Log, before msgs
	msgs  []*nats.Msg
	bytes int

	unsure bool // a try of this batch had no answer: it may be stored yet
}

func newPublisher(c *client.Client, nc *nats.Conn, js jetstream.JetStream, last event.Sequence) *publisher {
	return &publisher{c: c, nc: nc, js: js, last: last}
}

// next is the Sequence of the message that is added next.
func (p *publisher) next() event.Sequence { return p.end() + 1 }

// end is that of the last one added.
func (p *publisher) end() event.Sequence { return p.last + event.Sequence(len(p.msgs)) }

func (p *publisher) empty() bool { return len(p.msgs) == 0 }

func (p *publisher) add(ctx context.Context, m *nats.Msg) error {
	p.msgs = append(p.msgs, m)
	p.bytes += m.Size()
	if len(p.msgs) < restoreBatch && p.bytes < restoreBytes {
		return nil
	}
	return p.flush(ctx)
}

// flush stores the added messages.
func (p *publisher) flush(ctx context.Context) error {
	if p.empty() {
		return nil
	}
	for refusals := 0; ; {
		err := p.send(ctx)
		if err == nil {
			break
		}
		var api *jetstream.APIError
		if !errors.As(err, &api) {
			p.unsure = true
		} else if refusals++; refusals == restoreTries {
			return fmt.Errorf("the batch of seq %d to %d: %w", p.last+1, p.end(), err)
		}
		stored, stuck := p.settle(ctx, err)
		if stored {
			break
		}
		if stuck != nil {
			return stuck
		}
		if err := wait.For(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	p.last, p.msgs, p.bytes, p.unsure = p.end(), p.msgs[:0], 0, false
	return nil
}

// send sends the batch once. Its first message asks for an answer, so that a batch
// that the server does not begin is not sent whole.
func (p *publisher) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	// An answer that was due on a lost connection never comes.
	lost := p.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer p.nc.RemoveStatusListener(lost)
	go func() {
		select {
		case <-lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	id, n := rand.Text(), len(p.msgs)
	p.msgs[0].Header[wire.HeaderExpectedLast] = []string{p.last.String()}
	for i, m := range p.msgs {
		if n > 1 {
			m.Header[wire.HeaderBatchID] = []string{id}
			m.Header[wire.HeaderBatchSequence] = []string{strconv.Itoa(i + 1)}
		}
		switch {
		case i == n-1:
			if n > 1 {
				m.Header[wire.HeaderBatchCommit] = []string{"1"}
			}
			ack, err := p.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
			if err == nil && (ack.Duplicate || event.Sequence(ack.Sequence) != p.end()) {
				err = fmt.Errorf("%w: a message for seq %d was answered with seq %d (duplicate: %v)", ErrInterfered, p.end(), ack.Sequence, ack.Duplicate)
			}
			return err
		case i == 0:
			if err := p.begin(ctx, m); err != nil {
				return err
			}
		default:
			if err := p.nc.PublishMsg(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin sends the first message and reads the answer, which is empty when all is
// well.
func (p *publisher) begin(ctx context.Context, m *nats.Msg) error {
	answer, err := p.nc.RequestMsgWithContext(ctx, m)
	if err != nil || len(answer.Data) == 0 {
		return err
	}
	var refusal struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &refusal); err != nil || refusal.Error == nil {
		return fmt.Errorf("the server answered the begin of a batch with %q", answer.Data)
	}
	return refusal.Error
}

// settle finds out the outcome of a batch whose attempt ended with why: it is stored, a
// retry is possible (nil), or a retry is useless (an error).
func (p *publisher) settle(ctx context.Context, why error) (stored bool, err error) {
	for begun := time.Now(); ; {
		st, err := p.c.Admin().State(ctx)
		if err != nil {
			return false, fmt.Errorf("%w (after: %w)", err, why)
		}
		switch {
		case st.Last == p.end():
			return p.isOurs(ctx, why)
		case st.Last == p.last, st.Last < p.last && st.Config.Replicas > 1: // or an old leader's answer
			return false, p.refused(why)
		case st.Last < p.last || st.Last > p.end() || !p.unsure || time.Since(begun) > restoreTimeout:
			return false, fmt.Errorf("%w: its last seq is %d where %d was due (%w)", ErrInterfered, st.Last, p.last, why)
		}
		if err := wait.For(ctx, 10*time.Millisecond); err != nil {
			return false, err
		}
	}
}

// isOurs reports whether the Log ends with the batch's own last message.
func (p *publisher) isOurs(ctx context.Context, why error) (bool, error) {
	ours := p.msgs[len(p.msgs)-1]
	for m, err := range p.c.Feed(ctx, client.FeedConfig{After: p.end() - 1, Until: p.end()}) {
		if err != nil {
			return false, err
		}
		if m.Subject == ours.Subject && bytes.Equal(m.Data, ours.Data) {
			return true, nil
		}
	}
	return false, fmt.Errorf("%w: another message is at seq %d (%w)", ErrInterfered, p.end(), why)
}

// refused explains a refusal that a retry would not change.
func (p *publisher) refused(why error) error {
	var api *jetstream.APIError
	if errors.Is(why, ErrInterfered) {
		return why
	}
	if !errors.As(why, &api) {
		return nil
	}
	switch api.ErrorCode {
	case wire.CodeBatchDuplicate:
		return fmt.Errorf("the batch of seq %d to %d holds an id twice, or one that the Log holds already: %w", p.last+1, p.end(), why)
	case wire.CodeDiskFull, wire.CodeNoResources, wire.CodeStorageFull:
		switch api.Code {
		case wire.StatusReadOnly:
			return client.ErrDiskReadOnly
		case wire.StatusTorn:
			return fmt.Errorf("%w: %s", client.ErrTornBatch, api.Description)
		}
		return fmt.Errorf("%w (%s)", client.ErrDiskFull, api.Description)
	case wire.CodeWrongLast, wire.CodeWrongLastInFlight, wire.CodeDuplicateInFlight, wire.CodeBatchIncomplete, wire.CodeBatchInFlight:
		return nil
	}
	if api.Code >= 500 {
		return nil
	}
	return fmt.Errorf("the server refused the batch of seq %d to %d: %w", p.last+1, p.end(), why)
}
