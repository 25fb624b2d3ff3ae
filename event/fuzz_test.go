package event_test

import (
	"bufio"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

func addSeeds(f *testing.F, prefix string) {
	for _, s := range []string{
		`{` + prefix + head + `,"payload":{}}`,
		`{` + prefix + head + `,"payload":{"n":123456789012345678901234567890,"e":1e400,"s":"\ud800<>&\u003c"},"metadata":{"a":[1,{"b":null}]}}`,
		` { ` + prefix + ` "id" : "\u0065" , "type" : "a.b", "stream_id":"😀", "actor":"\"\\\/\b", "correlation_id":"\ud83d\ude00","timestamp": 0 , "payload" : [ ] } `,
		`{` + prefix + head + `,"payload":null,"causation_id":null,"":1,"x":{"y":"}"},"\u0078y":"\\"}`,
		`{` + prefix + head + `,"payload":"","causation_id":"","guard":"guards.checkpoint.cp_1","imported":true,"chain":"ab"}`,
		`{` + prefix + head + `,"payload":1,"guard":"","imported":false}`,
		`{` + prefix + `"id":1,"id":2}`, `{"timestamp":-0}`, `{"a":[}]}`, `{"a\`, `[{}]`, `{}`, "", "\xef\xbb\xbf{}",
	} {
		f.Add([]byte(s))
	}
	file, err := os.Open("../internal/legacy/testdata/durable_stream.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	sc := bufio.NewScanner(file)
	sc.Buffer(nil, 1<<20)
	for i := 0; sc.Scan(); i++ {
		if line := sc.Text(); i%40 == 0 && len(line) < 2000 {
			f.Add([]byte(`{` + prefix + line[1:]))
		}
	}
}

// What decodes and is valid is written and read again as the same event.
func FuzzDecode(f *testing.F) {
	addSeeds(f, "")
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := event.Decode(line)
		if err != nil || e.Validate() != nil {
			return
		}
		again, err := event.Decode(e.AppendJSON(nil))
		require.NoError(t, err)
		require.Equal(t, e, again)

		e.Payload = event.Compact(e.Payload)
		if e.Metadata != nil {
			e.Metadata = event.Compact(e.Metadata)
		}
		for i := range e.Extra {
			e.Extra[i].Value = event.Compact(e.Extra[i].Value)
		}
		stored, err := event.DecodeBody(event.Recorded{Event: e}.AppendBody(nil))
		require.NoError(t, err)
		require.Equal(t, e, stored.Event)
	})
}

func FuzzDecodeRecorded(f *testing.F) {
	addSeeds(f, `"seq":7,`)
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := event.DecodeRecorded(line)
		if err != nil || r.Validate() != nil {
			return
		}
		again, err := event.DecodeRecorded(r.AppendJSON(nil))
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}
