package durablestream_test

import (
	"fmt"
	"html"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// README's picture is what the commands of docs/picture.txt print. `make picture` draws it.
func TestPicture(t *testing.T) {
	t.Parallel()
	follow(t, "docs/picture.txt", 7)
	picture := draw(steps(read(t, "docs/picture.txt")))
	if rewrite {
		require.NoError(t, os.WriteFile("docs/picture.svg", []byte(picture), 0o644))
		return
	}
	require.Equal(t, picture, read(t, "docs/picture.svg"), "'make picture' draws it again")
}

const (
	columns    = 120 // longer lines are folded
	charWidth  = 7.8
	lineHeight = 18
	margin     = 14
	titleBar   = 28
	delay      = 0.9 // seconds from one command to the next
)

// A pane is what one terminal shows at the end.
type pane struct {
	title string
	rows  []row
}

type row struct {
	class, text string
	step        int // the step that printed it
}

func panes(all []step) (ps []*pane) {
	for i, s := range all {
		title := s.terminal
		if title == "" {
			title = "a human"
		}
		at := slices.IndexFunc(ps, func(p *pane) bool { return p.title == title })
		if at < 0 {
			at = len(ps)
			ps = append(ps, &pane{title: title})
		}
		for n, line := range strings.Split(s.command, "\n") {
			if n == 0 && line != "" {
				line = "$ " + line
			}
			if line != "" {
				ps[at].fold("command", line, i)
			}
		}
		for _, line := range s.shown {
			class := "output"
			if strings.HasPrefix(line, "dstream: ") {
				class = "error"
			}
			ps[at].fold(class, line, i)
		}
	}
	return ps
}

// fold adds a line, as a terminal of so many columns shows it.
func (p *pane) fold(class, line string, step int) {
	for text := []rune(line); ; text = text[columns:] {
		p.rows = append(p.rows, row{class, string(text[:min(columns, len(text))]), step})
		if len(text) <= columns {
			return
		}
	}
}

// draw is an SVG of the terminals that steps are carried out in. Its rows appear one step
// after the other; a viewer that knows no animation, or is asked for none, shows them all.
func draw(all []step) string {
	ps := panes(all)
	width, height := columns*charWidth+4*margin, float64(margin)
	for _, p := range ps {
		height += titleBar + float64(len(p.rows)*lineHeight) + 2*margin
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img" aria-label="Terminals that show dstream at work">
<style>
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #c9d1d9 }
.title { fill: #8b949e }
.command { fill: #7ee787 }
.error { fill: #ff7b72 }
@media (prefers-reduced-motion: no-preference) { .row { animation: appear .1s both } }
@keyframes appear { from { opacity: 0 } to { opacity: 1 } }
</style>
`, width, height)
	y := float64(margin)
	for _, p := range ps {
		box := titleBar + float64(len(p.rows)*lineHeight) + margin
		fmt.Fprintf(&b, `<rect x="%d" y="%.0f" width="%.0f" height="%.0f" rx="8" fill="#0d1117" stroke="#30363d"/>`+"\n", margin, y, width-2*margin, box)
		fmt.Fprintf(&b, `<text class="title" x="%d" y="%.0f">%s</text>`+"\n", 2*margin, y+titleBar-9, html.EscapeString(p.title))
		for i, r := range p.rows {
			text := strings.TrimLeft(r.text, " ") // a viewer may drop spaces at the start, and join others
			length := utf8.RuneCountInString(text)
			indent := utf8.RuneCountInString(r.text) - length
			fmt.Fprintf(&b, `<text class="row %s" style="animation-delay:%.1fs" x="%.1f" y="%.0f" textLength="%.1f">%s</text>`+"\n",
				r.class, float64(r.step)*delay, 2*margin+float64(indent)*charWidth, y+titleBar+float64(i*lineHeight)+lineHeight-4,
				float64(length)*charWidth, strings.ReplaceAll(html.EscapeString(text), " ", "\u00a0"))
		}
		y += box + margin
	}
	return b.String() + "</svg>\n"
}
