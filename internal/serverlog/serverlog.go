// Package serverlog passes the words of a nats-server to slog, and keeps those that the server
// reports nowhere else.
package serverlog

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
)

// Log is the logger of one server. Calls may overlap.
type Log struct {
	log    *slog.Logger
	ending atomic.Bool // nobody is let in any more: that others are refused is no error

	mu     sync.Mutex // guards these
	first  string     // fatal words
	stream string     // why the server has not opened a stream
}

// New is a Log that writes to logger.
func New(logger *slog.Logger) *Log { return &Log{log: logger} }

// Ending says that the host lets nobody in any more: from now on a refused connection is no error.
func (l *Log) Ending() { l.ending.Store(true) }

// Unopened is why the server has not opened a stream that lies in its store; "": it gave no
// reason.
func (l *Log) Unopened() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream
}

// Fatal is the first reason why the server could not start; "": it gave none.
func (l *Log) Fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// Fatalf keeps the first of its words for Fatal.
func (l *Log) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == "" {
		l.first = fmt.Sprintf(format, v...)
	}
}

// Noticef writes at level debug.
func (l *Log) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

// Warnf writes at level info, since the server warns of what it repairs, too. It keeps the words of a
// stream that was not opened.
func (l *Log) Warnf(format string, v ...any) {
	words := fmt.Sprintf(format, v...)
	if strings.Contains(format, "recreating stream") || strings.Contains(format, "metafile") || strings.Contains(format, "stream checksum") {
		l.mu.Lock()
		l.stream = strings.TrimSpace(words)
		l.mu.Unlock()
	}
	l.log.Info(words)
}

// Errorf writes at level error, but for what is no error of this host.
func (l *Log) Errorf(format string, v ...any) {
	words := fmt.Sprintf(format, v...)
	switch {
	case strings.HasPrefix(format, "Error trying to connect to route"): // Config.Waiting says so
	case l.ending.Load() && strings.Contains(words, "authentication error"):
	default:
		l.log.Error(words)
		return
	}
	l.log.Debug(words)
}

// Debugf discards its words.
func (l *Log) Debugf(string, ...any) {}

// Tracef discards its words.
func (l *Log) Tracef(string, ...any) {}
