package client_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
)

// A store that was lost and created again is another Log: a reader of the old one gets an
// error, and does not skip what the new one holds up to the reader's old position.
func TestReaderOfALostLogIsTold(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for range 3 {
		_, err := h.Client.Append(t.Context(), event.Event{Type: "a.b", StreamID: "s", Actor: "a"})
		require.NoError(t, err)
	}
	read, ended := make(chan event.Recorded, 10), make(chan error, 1)
	go func() {
		for r, err := range h.Client.Subscribe(t.Context(), event.Filter{}) {
			if err != nil {
				ended <- err
				return
			}
			read <- r
		}
	}()
	for range 3 {
		<-read
	}
	h.Stop(t)
	h.Wipe(t)
	h.Boot(t)
	for range 5 {
		_, err := h.NewClient(t, client.Config{}).Append(t.Context(), event.Event{Type: "a.b", StreamID: "s", Actor: "a"})
		require.NoError(t, err)
	}
	require.ErrorIs(t, <-ended, client.ErrOtherLog)
	require.Empty(t, read)
}
