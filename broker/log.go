package broker

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
)

// serverLog passes the server's words to slog, and keeps the first fatal one,
// since the server reports a failed start nowhere else.
type serverLog struct {
	log    *slog.Logger
	ending atomic.Bool // nobody is let in any more: that others are refused is no error

	mu     sync.Mutex // guards these
	first  string
	stream string // why it has not opened a stream
}

// unopened is why the server has not opened a stream that lies in its store; it says so
// only here.
func (l *serverLog) unopened() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream
}

func (l *serverLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == "" {
		l.first = fmt.Sprintf(format, v...)
	}
}

func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

func (l *serverLog) Warnf(format string, v ...any) {
	words := fmt.Sprintf(format, v...)
	if strings.Contains(format, "recreating stream") || strings.Contains(format, "metafile") || strings.Contains(format, "stream checksum") {
		l.mu.Lock()
		l.stream = strings.TrimSpace(words)
		l.mu.Unlock()
	}
	l.log.Info(words) // it warns of what it mends, too
}

func (l *serverLog) Errorf(format string, v ...any) {
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

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
