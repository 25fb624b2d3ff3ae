// Package serverlog passes the log lines of a nats-server to slog, and keeps the reasons that the
// server reports only there.
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
	ending atomic.Bool // the host refuses connections: such a refusal is no error

	mu     sync.Mutex // guards these
	first  string     // the first fatal line
	stream string     // why the server has not opened a stream
}

// New returns a Log that writes to logger.
func New(logger *slog.Logger) *Log { return &Log{log: logger} }

// Ending tells the Log that the host refuses all connections from now on, so that such a refusal
// is no error.
func (l *Log) Ending() { l.ending.Store(true) }

// Unopened returns the reason why the server has not opened a stream that is in its store; "":
// the server gave none.
func (l *Log) Unopened() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream
}

// Fatal returns the first reason why the server could not start; "": the server gave none.
func (l *Log) Fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// Fatalf keeps the first line for Fatal.
func (l *Log) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == "" {
		l.first = fmt.Sprintf(format, v...)
	}
}

// Noticef writes at level debug.
func (l *Log) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

// Warnf writes at level info, because the server also warns of faults that it repairs. It keeps the
// line about a stream that the server did not open.
func (l *Log) Warnf(format string, v ...any) {
	words := fmt.Sprintf(format, v...)
	if strings.Contains(format, "recreating stream") || strings.Contains(format, "metafile") || strings.Contains(format, "stream checksum") {
		l.mu.Lock()
		l.stream = strings.TrimSpace(words)
		l.mu.Unlock()
	}
	l.log.Info(words)
}

// Errorf writes at level error, or at debug a line that reports no error of this host.
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

// Debugf discards the line.
func (l *Log) Debugf(string, ...any) {}

// Tracef discards the line.
func (l *Log) Tracef(string, ...any) {}
