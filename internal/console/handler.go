package console

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// handler prints what a library logs as a person reads it: "dstream: what
// happened: why (stream s, seq 4)".
type handler struct {
	w     io.Writer
	attrs []slog.Attr
}

// Enabled lets warnings and errors through; -v shows everything, in slog's own form.
func (h handler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return h
}

func (h handler) WithGroup(string) slog.Handler { return h }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	text := "dstream: " + r.Message
	var details []string
	add := func(a slog.Attr) bool {
		if a.Key == "err" {
			text += ": " + a.Value.String()
		} else {
			details = append(details, a.Key+" "+a.Value.String())
		}
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	if len(details) > 0 {
		text += " (" + strings.Join(details, ", ") + ")"
	}
	_, err := fmt.Fprintln(h.w, Plain(text))
	return err
}

// Handler prints what a library logs in words, on w: warnings and errors.
func Handler(w io.Writer) slog.Handler { return handler{w: w} }
