package main

import (
	"io"

	"github.com/schollz/progressbar/v3"

	"durablestream/internal/console"
)

// bar is a progress bar that is only there for a person.
type bar struct{ b *progressbar.ProgressBar }

func progress(w io.Writer, total int64, what string) *bar {
	if !console.IsTerminal(w) {
		return &bar{}
	}
	return &bar{progressbar.NewOptions64(total, progressbar.OptionSetWriter(console.Under(w)), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionClearOnFinish())}
}

func (b *bar) set(done int64) {
	if b.b != nil {
		_ = b.b.Set64(done) // a bar that cannot be drawn is no reason to fail
	}
}

func (b *bar) finish() {
	if b.b != nil {
		_ = b.b.Finish()
	}
}
