package mirror

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// An event that is nested as deep as versions before event.MaxDepth took it is mirrored,
// verified and restored. A mirror of such a version has no line for it, which its chain
// vouches for: that is no damage.
func TestDeepEventFromBeforeTheLimit(t *testing.T) {
	t.Parallel()
	old := brokertest.Start(t)
	js, err := jetstream.New(old.Conn)
	require.NoError(t, err)
	deep := event.Recorded{Event: event.Event{
		ID: "deep", Type: "test.deep", StreamID: "s", Actor: "a", CorrelationID: "c", Timestamp: time.UnixMilli(1),
		Payload: json.RawMessage(strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)),
	}}
	appendAll(t, old.Client, mixed(2)...)
	_, err = js.PublishMsg(t.Context(), wire.Encode(deep))
	require.NoError(t, err)
	appendAll(t, old.Client, mixed(2)...)
	cfg := configOf(t, old)
	catchUp(t, cfg)
	requireEqual(t, cfg)
	require.Equal(t, 5, strings.Count(content(t, cfg.Dir), "\n"))

	h := brokertest.Start(t)
	report, err := Restore(t.Context(), restoreOf(h, cfg.Dir))
	require.NoError(t, err)
	require.EqualValues(t, 5, report.Lines)
	require.Equal(t, expected(t, old.Client), expected(t, h.Client))

	// As the mirror of the version before wrote it.
	sum, last := newChainer(), origin
	var lines []byte
	for _, m := range messages(t, old.Client) {
		if m.Header.Get(wire.HeaderID) != "deep" {
			lines, last = sum.appendLine(lines, m.Seq, m.Data, last)
		}
	}
	put(t, cfg.Dir, map[string]string{ActiveName: string(lines)})
	verified, err := Verify(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, verified.Problem)
	require.EqualValues(t, 4, verified.Lines)
	require.EqualValues(t, 1, verified.SetAside)
	appendAll(t, old.Client, mixed(1)...)
	catchUp(t, cfg)
	verified, err = Verify(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, verified.Problem)

	// A line that is gone shows in the chain all the same.
	text := strings.SplitAfter(content(t, cfg.Dir), "\n")
	put(t, cfg.Dir, map[string]string{ActiveName: text[0] + strings.Join(text[2:], "")})
	at, err := badLine(t, cfg)
	require.Equal(t, place{ActiveName, 2}, at, "%v", err)
}
