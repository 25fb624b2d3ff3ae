package wire_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/wire"
)

// readVectors reads one of the files that docs/protocol.md refers to.
func readVectors[T any](t *testing.T, name string, atLeast int) []T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "vectors", name))
	require.NoError(t, err)
	var out []T
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&out))
	require.GreaterOrEqual(t, len(out), atLeast)
	return out
}

func TestSubjectVectors(t *testing.T) {
	type vector struct {
		Type     string `json:"type"`
		StreamID string `json:"stream_id"`
		Subject  string `json:"subject"`
	}
	for _, v := range readVectors[vector](t, "subjects.json", 12) {
		require.Equal(t, v.Subject, wire.EventSubject(v.Type, v.StreamID))
		requireSubject(t, v.Type, v.StreamID)
	}
}

func TestHeaderVectors(t *testing.T) {
	type vector struct{ Value, Header string }
	for _, v := range readVectors[vector](t, "headers.json", 10) {
		require.Equal(t, v.Header, wire.HeaderValue(v.Value), "%q", v.Value)
	}
}

func TestEventVectors(t *testing.T) {
	type vector struct {
		Name     string // what the vector shows
		Line     string // as a caller gives it
		Guard    string // the guard that it is written behind, if any
		Imported bool
		Body     string // as the Log stores it
		Recorded string // as a reader sees it, with Sequence 7
	}
	for _, v := range readVectors[vector](t, "events.json", 8) {
		t.Run(v.Name, func(t *testing.T) {
			e, err := event.Decode([]byte(v.Line))
			require.NoError(t, err)
			require.NoError(t, e.Validate())
			e.Payload = event.Compact(e.Payload)
			if e.Metadata != nil {
				e.Metadata = event.Compact(e.Metadata)
			}
			for i := range e.Extra {
				e.Extra[i].Value = event.Compact(e.Extra[i].Value)
			}
			r := event.Recorded{Event: e, Seq: 7, Guard: v.Guard, Imported: v.Imported}
			m := wire.Encode(r)
			require.Equal(t, v.Body, string(m.Data))
			require.Equal(t, v.Recorded, string(r.AppendJSON(nil)))

			stored, err := wire.Decode(m.Subject, []byte(v.Body), 7)
			require.NoError(t, err)
			require.Equal(t, r, stored)
			read, err := event.DecodeRecorded([]byte(v.Recorded))
			require.NoError(t, err)
			require.Equal(t, r, read)
			if v.Guard != "" {
				guard, _, ok := wire.Protected(e)
				require.True(t, ok)
				require.Equal(t, v.Guard, guard)
			}
		})
	}
}
