package logio_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/brokertest"
	"durablestream/internal/dial"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

func TestMain(m *testing.M) { brokertest.Main(m) }

// journal is a Log with the calls that these tests append and read with: no rules, no
// guards, only messages.
type journal struct{ *logio.Log }

func open(t testing.TB, nc *nats.Conn, cfg logio.Config) journal {
	t.Helper()
	rights, err := dial.AskRights(t.Context(), nc)
	require.NoError(t, err)
	l, err := logio.Open(t.Context(), nc, rights, cfg)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return journal{l}
}

// filled gives an event what every stored one has.
func filled(e event.Event) event.Recorded {
	if e.ID == "" {
		e.ID = event.NewID()
	}
	if e.Timestamp.IsZero() {
		e.Timestamp = event.Now()
	}
	if e.CorrelationID == "" {
		e.CorrelationID = "c"
	}
	if len(e.Payload) == 0 {
		e.Payload = []byte("{}")
	}
	return event.Recorded{Event: e}
}

func (j journal) Append(ctx context.Context, e event.Event) (event.Recorded, error) {
	return j.Publish(ctx, filled(e))
}

func (j journal) AppendBatch(ctx context.Context, es []event.Event) ([]event.Recorded, error) {
	if len(es) == 1 {
		r, err := j.Append(ctx, es[0])
		return []event.Recorded{r}, err
	}
	rs, b := make([]event.Recorded, len(es)), make(logio.Batch, len(es))
	for i, e := range es {
		rs[i] = filled(e)
		b[i] = logio.OfEvent(&rs[i])
	}
	return rs, j.PublishBatch(ctx, b)
}

// AppendGuarded moves a guard, with events behind it, and gives its new Sequence.
func (j journal) AppendGuarded(ctx context.Context, name string, expected event.Sequence, es ...event.Event) (event.Sequence, error) {
	subject := wire.GuardSubject(event.GuardUser, name)
	body := wire.GuardBody{Event: rand.Text()}
	rs, b := make([]event.Recorded, len(es)), make(logio.Batch, 1, 1+len(es))
	for i, e := range es {
		if rs[i] = filled(e); i == 0 {
			body.Event, body.Type = rs[i].ID, e.Type
		}
		rs[i].Guard = subject
		b = append(b, logio.OfEvent(&rs[i]))
	}
	b[0] = logio.OfGuard(subject, body.Encode(), expected)
	err := j.PublishBatch(ctx, b)
	return b[0].Seq(), err
}

// Query brings what matches, up to the Log's end as of now.
func (j journal) Query(ctx context.Context, f event.Filter) iter.Seq2[event.Recorded, error] {
	return func(yield func(event.Recorded, error) bool) {
		position := j.Position
		if f.Linearizable {
			position = j.Barrier
		}
		end, err := position(ctx)
		if err != nil {
			yield(event.Recorded{}, err)
			return
		}
		cfg := logio.FeedConfig{After: f.After, Until: end, NoHeaders: true}
		if len(f.Types) > 0 || f.StreamID != "" {
			cfg.Subjects = wire.FilterSubjects(f)
		}
		if end <= f.After {
			return
		}
		for m, err := range j.Feed(ctx, cfg) {
			if err != nil {
				yield(event.Recorded{}, err)
				return
			}
			if wire.IsGuard(m.Subject) {
				continue
			}
			r, err := wire.Decode(m.Subject, m.Data, m.Seq)
			if !yield(r, err) {
				return
			}
		}
		if err := j.EndsAt(ctx, end); err != nil {
			yield(event.Recorded{}, err)
		}
	}
}

// querier is a journal, or a client.
type querier interface {
	Query(context.Context, event.Filter) iter.Seq2[event.Recorded, error]
}

func query(t *testing.T, q querier, f event.Filter) []event.Recorded {
	t.Helper()
	var out []event.Recorded
	for r, err := range q.Query(t.Context(), f) {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

func newEvent(payload string) event.Event {
	return event.Event{Type: "test.event", StreamID: "s", Actor: "tester", Payload: []byte(payload)}
}

// numbered gives n events with payloads 1 to n.
func numbered(n int) []event.Event {
	es := make([]event.Event, n)
	for i := range es {
		es[i] = newEvent(fmt.Sprint(i + 1))
	}
	return es
}

// withIDs gives events their ids, like a caller that may have to append them again.
func withIDs(es []event.Event) []event.Event {
	for i := range es {
		es[i].ID = event.NewID()
	}
	return es
}

func position(t *testing.T, l interface {
	Position(context.Context) (event.Sequence, error)
}) event.Sequence {
	t.Helper()
	at, err := l.Position(t.Context())
	require.NoError(t, err)
	return at
}

// within bounds a test's waits.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// indexed waits until all blocks have an index that the engine has filled.
func indexed(t *testing.T, h *brokertest.Host) {
	t.Helper()
	dirs, err := blocks.Find(filepath.Join(h.Config.Dir, broker.StoreDir))
	require.NoError(t, err)
	require.Len(t, dirs, 1)
	all, err := blocks.List(dirs[0])
	require.NoError(t, err)
	b, err := blocks.CheckFile(all[len(all)-2])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return h.Broker.Indexed() >= b.Last }, 20*time.Second, 5*time.Millisecond)
}
