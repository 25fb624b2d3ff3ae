package logio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// freshLast is lastOn on a cluster. A leader that was cut off, or one that was just
// elected, answers single reads and may lack what this client has appended or read; and
// here "not there" decides. So the client asks for the last messages on two subjects, of
// which one always holds messages. The end of the answer then shows the position of the
// replica, and the client asks again if that replica is behind.
//
// Safety: the answer is that of the Log as of a Sequence at or after everything that this
// client has appended or read. Liveness: any replica may answer, and live replicas catch
// up.
func (l *Log) freshLast(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	// The leader's position, which is never before the known one. So the answer includes
	// what anybody's append returned a moment ago, unless that leader is cut off.
	known, err := l.Position(ctx)
	if err != nil {
		return nil, err
	}
	var last *jetstream.RawStreamMsg
	err = l.retry(ctx, func(ctx context.Context) error {
		anchor, err := l.anchorSubject(ctx)
		if anchor == "" && known == 0 || err != nil {
			last = nil
			return err
		}
		m, upTo, err := l.directLast(ctx, subject, anchor)
		if err != nil {
			return err
		}
		if upTo < known {
			return fmt.Errorf("a replica answered that is at %d, and %d is known: %w", upTo, known, errStale)
		}
		l.sawSequence(upTo)
		last = m
		return nil
	})
	return last, err
}

var errStale = errors.New("a replica is behind")

// anchorSubject returns a subject that always holds a message: that of the Log's first
// one. It is "" while the Log is empty.
func (l *Log) anchorSubject(ctx context.Context) (string, error) {
	if s := l.anchor.Load(); s != nil {
		return *s, nil
	}
	info, err := l.js.Stream(ctx, wire.LogName)
	if err != nil {
		return "", err
	}
	state := info.CachedInfo().State
	if state.Msgs == 0 {
		return "", nil
	}
	m, err := (*l.stream.Load()).GetMsg(ctx, state.FirstSeq)
	if err != nil {
		return "", err
	}
	l.anchor.Store(&m.Subject)
	return m.Subject, nil
}

// directLast asks any replica for the last messages on subject and on anchor. It returns
// the one on subject, nil if there is none, and the replica's position.
func (l *Log) directLast(ctx context.Context, subject, anchor string) (last *jetstream.RawStreamMsg, upTo event.Sequence, err error) {
	both := []string{subject}
	if anchor != subject {
		both = append(both, anchor)
	}
	body, err := json.Marshal(map[string][]string{"multi_last": both})
	if err != nil {
		return nil, 0, err
	}
	inbox := l.nc.NewRespInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = sub.Unsubscribe() }() // an error means that the connection is gone
	if err := l.nc.PublishRequest(wire.DirectSubject(l.js.Options().APIPrefix), inbox, body); err != nil {
		return nil, 0, err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, 0, err
		}
		switch {
		case len(m.Header[wire.HeaderOfStream]) == 0: // the server's own answer
			if m.Header.Get(wire.HeaderStatus) != wire.StatusEnd {
				return nil, 0, fmt.Errorf("the last messages cannot be read: %s %s", m.Header.Get(wire.HeaderStatus), m.Header.Get("Description"))
			}
			upTo, err := event.ParseSequence(m.Header.Get(wire.HeaderUpTo))
			return last, upTo, err
		case stamp(m, jetstream.SubjectHeader) == subject:
			if last, err = rawMessage(m); err != nil {
				return nil, 0, err
			}
		}
	}
}

// stamp returns a header that the server has put behind the stored ones, which are
// whatever their writer chose.
func stamp(m *nats.Msg, name string) string {
	if v := m.Header[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// rawMessage is a message as a direct read returns it.
func rawMessage(m *nats.Msg) (*jetstream.RawStreamMsg, error) {
	seq, err := strconv.ParseUint(stamp(m, jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("a message without its sequence: %w", err)
	}
	stored, err := time.Parse(time.RFC3339Nano, stamp(m, jetstream.TimeStampHeaer))
	if err != nil {
		return nil, fmt.Errorf("a message without its time: %w", err)
	}
	return &jetstream.RawStreamMsg{Subject: stamp(m, jetstream.SubjectHeader), Sequence: seq, Header: m.Header, Data: m.Data, Time: stored}, nil
}
