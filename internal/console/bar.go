package console

import (
	"io"

	"github.com/schollz/progressbar/v3"
)

// Bar is a progress bar that is only there for a person.
type Bar struct {
	w    io.Writer
	what string
	b    *progressbar.ProgressBar // nil before the first Set
}

// NewBar gives a bar that is drawn on w, if that is a terminal, from its first Set on.
func NewBar(w io.Writer, what string) *Bar { return &Bar{w: w, what: what} }

// Set says how many of all are done.
func (b *Bar) Set(done, all uint64) {
	if !IsTerminal(b.w) {
		return
	}
	if b.b == nil {
		b.b = progressbar.NewOptions64(int64(all), progressbar.OptionSetWriter(Under(b.w)), progressbar.OptionSetDescription(b.what),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionClearOnFinish())
	}
	_ = b.b.Set64(int64(done)) // a bar that cannot be drawn is no reason to fail
}

// Finish takes the bar away.
func (b *Bar) Finish() {
	if b.b != nil {
		_ = b.b.Finish()
	}
}
