package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/engine"
	"durablestream/internal/wire"
)

// occupy creates consumers of the Log that nobody reads, and returns their names.
func occupy(t *testing.T, js jetstream.JetStream, n int) (names []string) {
	t.Helper()
	for i := range n {
		names = append(names, fmt.Sprintf("taken_%d", i))
		_, err := js.CreateConsumer(t.Context(), wire.LogName, jetstream.ConsumerConfig{
			Name: names[i], AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, InactiveThreshold: time.Hour,
		})
		require.NoError(t, err)
	}
	return names
}

func TestMoreReadersThanTheEngineAdmitsByDefault(t *testing.T) {
	t.Parallel()
	brokertest.OnlyOurs(t, "the limit of other servers is theirs")
	h := brokertest.Start(t)
	occupy(t, h.Admin(t), engine.MostConsumers)
	_, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	s := subscribe(t, h.Client, event.Filter{})
	s.next(t, 1)
	s.ended(t)
	require.Len(t, query(t, h.Client, event.Filter{}), 1)
}

func TestAReaderWaitsWhereNoMoreAreAdmitted(t *testing.T) {
	t.Parallel()
	srv := brokertest.StartPlain(t, func(o *server.Options) { o.JetStreamLimits.DefaultMaxConsumers = 2 })
	nc, err := nats.Connect(srv.ClientURL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	require.NoError(t, wire.CreateLog(t.Context(), js, 1, 0))
	var words brokertest.Words
	c, err := client.New(t.Context(), nc, client.Config{Logger: slog.New(slog.NewTextHandler(&words, nil))})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	taken := occupy(t, js, 2)
	_, err = c.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)

	brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var last error
	for _, err := range c.Query(brief, event.Filter{}) {
		last = err
	}
	require.ErrorIs(t, last, client.ErrTooManyReaders)
	require.ErrorIs(t, last, context.DeadlineExceeded)

	s := subscribe(t, c, event.Filter{})
	require.Eventually(t, func() bool { return len(words.String()) > 0 }, 20*time.Second, time.Millisecond, "it is told")
	require.Contains(t, words.String(), "admits no more readers")
	require.Empty(t, s.end, "it waits")
	require.NoError(t, js.DeleteConsumer(t.Context(), wire.LogName, taken[0]))
	s.next(t, 1)
	s.ended(t)
}
