package event

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzValid(f *testing.F) {
	for _, s := range []string{
		`{}`, ` [1, -0.5e+10 , "a\"\\\u00e9", true,false ,null]`, `{"a":{"b":[[],{}]}} `, ``, `{`, `[`, `"`, `{"a"}`, `{"a":}`, `{a:1}`,
		`[1,]`, `{"a":1,}`, `01`, `-`, `1.`, `1e`, `.5`, `+1`, `"\x"`, `"\u12"`, `"\u12G4"`, "\"\n\"", "\"\xff\"", `tru`, `nulll`, `1 2`, `{"a":1}x`, `{,}`, `[,]`,
		strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001),
		strings.Repeat(`{"a":`, 10_001) + "1" + strings.Repeat("}", 10_001),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		require.Equal(t, json.Valid(b), valid(b, 10_000), "%q", b)
	})
}

// Every byte at every place of eight, beside every byte that a carry could change.
func TestSpecial(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for next := range 256 {
			for at := range 10 {
				b := []byte(strings.Repeat("a", at) + string([]byte{byte(c), byte(next)}) + strings.Repeat("é", 8))
				want := len(b)
				for i := range 2 {
					if v := b[at+i]; v < 0x20 || v == '"' || v == '\\' {
						want = at + i
						break
					}
				}
				if got := special(b, 0); got != want { // require is too slow for so many
					require.Equal(t, want, got, "%q", b)
				}
			}
		}
	}
}

// Compact is what encoding/json makes of valid JSON, in memory of its own.
func FuzzCompact(f *testing.F) {
	f.Add([]byte(` { "a b" : [ 1 , "\" \\" , "\t" , {} ] } `))
	f.Fuzz(func(t *testing.T, b []byte) {
		if !json.Valid(b) {
			t.Skip("not JSON")
		}
		var want bytes.Buffer
		require.NoError(t, json.Compact(&want, b))
		got := Compact(b)
		clear(b)
		require.Equal(t, want.String(), string(got))
	})
}

func BenchmarkValid(b *testing.B) {
	line := []byte(`{"id":"01a20437-c3b1-7665-a231-78c4a4e36415","type":"agent.spawned","payload":{"text":"` + strings.Repeat("durable ", 30) + `"}}`)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			valid(line, storedDepth)
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		for b.Loop() {
			json.Valid(line)
		}
	})
}
