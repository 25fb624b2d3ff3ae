package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// However many ask at once, each is answered: that the host is busy, if nothing else.
func TestEachQuestionIsAnswered(t *testing.T) {
	t.Parallel()
	questions := longtest.Pick(5_000, 20_000)
	b, err := start(t, broker.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	nc, err := b.Connect()
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	c, err := client.New(t.Context(), nc, client.Config{})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	_, err = c.Append(t.Context(), event.Event{Type: "test.event", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
	st, err := c.Admin().State(t.Context())
	require.NoError(t, err)
	find := wire.Find{Log: st.Created.UnixNano(), Until: st.Last}.Encode()
	for subject, body := range map[string][]byte{wire.FindSubject: find, wire.CheckSubject(""): nil} {
		inbox := nc.NewInbox()
		answers := make(chan *nats.Msg, questions)
		_, err := nc.ChanSubscribe(inbox, answers)
		require.NoError(t, err)
		for range questions {
			require.NoError(t, nc.PublishRequest(subject, inbox, body))
		}
		busy := 0
		timeout := time.After(time.Minute)
		for n := range questions {
			select {
			case m := <-answers:
				if _, is := wire.Busy(m); is {
					busy++
				} else if subject == wire.FindSubject {
					f, err := wire.DecodeFound(m)
					require.NoError(t, err)
					require.Len(t, f.Messages, 1)
				} else {
					require.Equal(t, "[]", string(m.Data))
				}
			case <-timeout:
				require.Fail(t, "no more answers", "%s: %d of %d", subject, n, questions)
			}
		}
		t.Log(subject, fmt.Sprint(busy, " of ", questions, " were told that the host is busy"))
		require.Less(t, busy, questions)
	}
}
