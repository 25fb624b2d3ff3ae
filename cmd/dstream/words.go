package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// wordsHandler prints what a library logs as a person reads it: "dstream: what
// happened: why (stream s, seq 4)".
type wordsHandler struct {
	w     io.Writer
	attrs []slog.Attr
}

// Enabled lets warnings and errors through; -v shows everything, in slog's own form.
func (h wordsHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (h wordsHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return h
}

func (h wordsHandler) WithGroup(string) slog.Handler { return h }

func (h wordsHandler) Handle(_ context.Context, r slog.Record) error {
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
	_, err := fmt.Fprintln(h.w, printable(text))
	return err
}
