package console

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
)

// shown is what a terminal is sent when text is written in pieces of n bytes.
func shown(t testing.TB, text string, n int) string {
	var out bytes.Buffer
	c := New(&out)
	for len(text) > 0 {
		k := min(n, len(text))
		wrote, err := c.Write([]byte(text[:k]))
		require.NoError(t, err)
		require.Equal(t, k, wrote)
		text = text[k:]
	}
	c.finish()
	return out.String()
}

// hidden are characters that must not reach a terminal, of each kind.
var hidden = []rune{
	0, 7, 8, '\r', 0x1b, 0x7f, 0x80, 0x9b, 0x9d, 0x9f, 0xad, // C0, DEL, C1, soft hyphen
	0x61c, 0x200e, 0x200f, 0x202a, 0x202e, 0x2066, 0x2069, 0x2028, 0x2029,
	0x34f, 0x115f, 0x1160, 0x17b4, 0x180e, 0x200b, 0x200c, 0x200d, 0x2060, 0x2064, 0x206f, 0x2800, 0x3164, 0xfe00, 0xfe0f, 0xfeff, 0xffa0, 0xfff9, 0xfffc,
	0x1d173, 0xe0001, 0xe0041, 0xe007f, 0xe0100, 0xfffe, 0xe000, 0x10ffff,
}

func TestHiddenCharactersAreEscaped(t *testing.T) {
	t.Parallel()
	for _, r := range hidden {
		in := "a" + string(r) + "b"
		for n := 1; n < 6; n++ {
			got := shown(t, in, n)
			require.NotContains(t, got, string(r), "%U", r)
			var back string
			require.NoError(t, json.Unmarshal([]byte(`"`+got+`"`), &back), "%U: %s", r, got)
			require.Equal(t, in, back)
		}
	}
}

func TestWritingIsShownAsItIs(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"plain\n\ttext", "grüße, žluťoučký", "日本語\u3000テスト", "👩‍💻 ❤️ 👍🏽 🏳️‍🌈", "می\u200cخواهم", "क्\u200dष", "no-break\u00a0space", "▁▂▃ └─ …", "שלום",
	} {
		for _, n := range []int{1, 3, 100} {
			require.Equal(t, in, shown(t, in, n))
		}
		require.Equal(t, strings.ReplaceAll(in, "\t", " "), Plain(in))
	}
	require.Equal(t, `👩\u200bx`, shown(t, "👩\u200bx", 1))
	require.Equal(t, "می\u200c\\u200c", shown(t, "می\u200c\u200c", 1), "one, not a row of them")
}

func TestBytesThatAreNoCharacter(t *testing.T) {
	t.Parallel()
	require.Equal(t, `a\xff\xed\xa0\x80b`, shown(t, "a\xff\xed\xa0\x80b", 2))
	require.Equal(t, `a\xc2`, shown(t, "a\xc2", 1), "the end never came")
	require.Equal(t, "\ufffd", shown(t, "\ufffd", 1), "the character itself")
}

// Whatever is written, in whatever pieces, nothing hidden comes out but what joins
// writing; and JSON stays the same JSON.
func FuzzWriter(f *testing.F) {
	for _, r := range hidden {
		f.Add("x"+string(r), 1)
	}
	f.Add("\xc2\x9b\xe2\x80", 2)
	f.Fuzz(func(t *testing.T, in string, n int) {
		n = max(1, min(n, 1000))
		got := shown(t, in, n)
		require.Equal(t, shown(t, in, len(in)+1), got)
		for _, r := range got {
			if r != '\n' && r != '\t' && !strings.ContainsRune("\u200c\u200d\ufe0e\ufe0f", r) {
				require.False(t, Hidden(r) || unicode.IsControl(r), "%U", r)
			}
		}
		line, err := json.Marshal(in)
		require.NoError(t, err)
		var back, want string
		require.NoError(t, json.Unmarshal(line, &want))
		require.NoError(t, json.Unmarshal([]byte(shown(t, string(line), n)), &back))
		require.Equal(t, want, back)
	})
}

// What is no terminal is written exactly, and what draws reaches the terminal itself.
func TestOf(t *testing.T) {
	t.Parallel()
	var pipe bytes.Buffer
	out, finish := Of(&pipe)
	defer finish()
	require.Same(t, &pipe, out)
	require.False(t, IsTerminal(out))
	require.Equal(t, 79, Width(out))

	var screen bytes.Buffer
	c := New(&screen)
	Redraw(c, "line\x1b[2J")
	require.Equal(t, "\r\x1b[Kline\\u001b[2J", screen.String())
	require.Same(t, &screen, Under(c))
}

func TestClock(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 2*60*60)
	now := time.Date(2026, 11, 30, 23, 30, 0, 0, zone)
	for at, want := range map[time.Time]string{
		now.Add(-time.Hour):                            "22:30:00",
		now.Add(time.Hour):                             "2026-12-01 00:30:00",
		now.Add(-24 * time.Hour):                       "2026-11-29 23:30:00",
		now.AddDate(293, 0, 0):                         "2319-11-30 23:30:00",
		time.Date(2026, 11, 29, 23, 0, 0, 0, time.UTC): "01:00:00", // today here
	} {
		require.Equal(t, want, Clock(now, at))
	}
}
