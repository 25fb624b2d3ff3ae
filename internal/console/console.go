// Package console keeps a terminal safe from what events say.
//
// A terminal obeys the control characters in what it is sent, turns text round at the
// marks of bidirectional writing, and shows nothing at all for some others. Events are
// written by agents, so none of these reach a terminal raw: a Writer stands before it, and
// everything that a command prints passes through that one place. Each such character
// becomes its \uXXXX, which is what JSON calls it too: a line of JSON is still the same
// JSON. What is no terminal, a pipe or a file, is written exactly.
package console

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"
)

// Writer writes to a terminal.
type Writer struct {
	to io.Writer

	mu   sync.Mutex // guards all below
	rest []byte     // the beginning of a character whose end has not come yet
	last rune       // the character before
}

// New gives a Writer before any terminal.
func New(terminal io.Writer) *Writer { return &Writer{to: terminal} }

// Of gives what to write to instead of w: a Writer before a terminal, else w itself. Call
// finish when nothing more will be written.
func Of(w io.Writer) (out io.Writer, finish func()) {
	if !IsTerminal(w) {
		return w, func() {}
	}
	c := New(w)
	return c, c.finish
}

// Under is what a Writer stands before, and any other w itself: for what draws on the
// terminal, and brings nothing of an event.
func Under(w io.Writer) io.Writer {
	if c, ok := w.(*Writer); ok {
		return c.to
	}
	return w
}

// IsTerminal reports whether a person sees what is written to w.
func IsTerminal(w io.Writer) bool {
	f, ok := Under(w).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Width is how much fits on one line of w; 79 where it is no terminal.
func Width(w io.Writer) int {
	if f, ok := Under(w).(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 1 {
			return n - 1
		}
	}
	return 79
}

// Redraw replaces the line on which the cursor of a terminal is.
func Redraw(w io.Writer, text string) {
	const lineStart = "\r\x1b[K"
	_, _ = io.WriteString(Under(w), lineStart) // a line that cannot be drawn is no reason to fail
	_, _ = io.WriteString(w, text)
}

// Write implements io.Writer.
func (c *Writer) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := p
	if len(c.rest) > 0 {
		in = slices.Concat(c.rest, p)
		c.rest = nil
	}
	out := c.escape(make([]byte, 0, len(in)+16), in)
	if _, err := c.to.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// finish writes the beginning of a character whose end never came.
func (c *Writer) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rest := c.rest; len(rest) > 0 {
		c.rest = nil
		_, _ = c.to.Write(appendBytes(nil, rest)) // nobody is left to tell
	}
}

// escape appends in as the terminal may have it, and keeps an unfinished character.
func (c *Writer) escape(out, in []byte) []byte {
	for len(in) > 0 {
		r, n := rune(in[0]), 1
		if r >= utf8.RuneSelf {
			if !utf8.FullRune(in) {
				c.rest = append([]byte(nil), in...)
				return out
			}
			r, n = utf8.DecodeRune(in)
		}
		switch {
		case r == utf8.RuneError && n == 1:
			out = appendBytes(out, in[:1])
		case r != '\n' && r != '\t' && Hidden(r) && !joins(c.last, r):
			out = appendRune(out, r)
		default:
			out = append(out, in[:n]...)
		}
		c.last, in = r, in[n:]
	}
	return out
}

// Plain is s with a space for each character but a newline that a terminal is not to have
// raw. What holds an emoji or a word of a script together stays.
func Plain(s string) string {
	var last rune
	return strings.Map(func(r rune) rune {
		before := last
		last = r
		if r != '\n' && Hidden(r) && !joins(before, r) {
			return ' '
		}
		return r
	}, s)
}

// appendRune appends a character as JSON escapes it.
func appendRune(out []byte, r rune) []byte {
	if a, b := utf16.EncodeRune(r); a != unicode.ReplacementChar {
		return fmt.Appendf(out, `\u%04x\u%04x`, a, b)
	}
	return fmt.Appendf(out, `\u%04x`, r)
}

// appendBytes appends bytes that are no character.
func appendBytes(out, in []byte) []byte {
	for _, b := range in {
		out = fmt.Appendf(out, `\x%02x`, b)
	}
	return out
}

// blank are characters that are graphic by their category, and show nothing.
var blank = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x2800, Hi: 0x2800, Stride: 1}, // a braille cell without dots
		{Lo: 0xfffc, Hi: 0xfffc, Stride: 1}, // the place of an object that is not in the text
	},
}

// Hidden reports a character that does something else than to show itself: control
// characters, marks of direction, separators of lines, tags, fillers, joiners, variation
// selectors, and what Unicode has not assigned.
func Hidden(r rune) bool {
	if 0x20 <= r && r < 0x7f {
		return false
	}
	return !unicode.IsGraphic(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, blank)
}

// joins reports a joiner or a selector where writing needs it: in a sequence of emoji, and
// in a word of a script that is written with them.
func joins(before, r rune) bool {
	const nonJoiner, joiner, asText, asEmoji = 0x200c, 0x200d, 0xfe0e, 0xfe0f
	emoji := unicode.In(before, unicode.So, unicode.Sk) && before >= 0x2000 && before != 0x2800
	switch r {
	case joiner:
		return emoji || before == asEmoji || joined(before)
	case nonJoiner:
		return joined(before)
	case asText, asEmoji:
		return emoji
	}
	return false
}

func joined(before rune) bool {
	return before >= 0x600 && !Hidden(before) && unicode.In(before, unicode.L, unicode.M)
}
