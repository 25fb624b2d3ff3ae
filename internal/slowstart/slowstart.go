// Package slowstart reports the progress of a host whose start takes long.
package slowstart

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"durablestream/internal/paths"
)

// The engine starts in milliseconds, but for two cases: after a crash it reads all blocks,
// and at every start it reads the id of each message that the duplicate window still
// holds, one by one. Five million events of the last ten minutes take it more than half a
// minute, which cannot be cut short: a start that is given up begins again at the first
// id, and a host that gives up after ten seconds never opens the log. So:
//
//   - the host waits for the engine's start as long as that takes. A deadline of Start's
//     context does not end it; a cancellation does;
//   - meanwhile the host keeps a locked file with its progress. A process that waits for
//     the host reads there that the host is at work. The lock ends with the host's
//     process, and a file without a lock means nothing.

const (
	startTold  = time.Second      // a start that takes longer is reported
	startEvery = 10 * time.Second // how often the owner hears of it
	// idTime is what the engine needs for an id of the duplicate window on an idle machine.
	idTime = 7 * time.Microsecond
)

// Told is the content of the file.
type Told struct {
	PID   int    `json:"pid"`
	Since int64  `json:"since"` // Unix ms
	Words string `json:"words"` // what the host does, and how far it is
}

// Look reports a host that is starting and takes long; nil: there is none.
func Look(path string) *Told {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return nil // there is none, or its report cannot be read
	}
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	free, err := lock.TryRLock()
	if err != nil || free {
		_ = lock.Close() // it was only looked at
		return nil       // the same
	}
	var t Told
	b, err := paths.ReadFile(path)
	if err != nil || json.Unmarshal(b, &t) != nil {
		return &Told{} // it is being written
	}
	return &t
}

// Start is a start that is under way.
type Start struct {
	path    string
	waiting func(words string)
	began   time.Time
	work    atomic.Pointer[work] // of the engine
	once    sync.Once
	quit    chan struct{}
	done    chan struct{}
}

// Tell reports a start that takes long, in the file at path and to waiting, until End. Call
// End when other processes can join the host, or when there is no host to join.
func Tell(path string, waiting func(words string)) *Start {
	s := &Start{path: path, waiting: waiting, began: time.Now(), quit: make(chan struct{}), done: make(chan struct{})}
	go s.tell()
	return s
}

// Reads sets the work of the engine's start: the number of messages to read, and of those
// whose ids it reads too, because they are within the duplicate window.
func (s *Start) Reads(messages, recent uint64, window time.Duration) {
	if s != nil {
		s.work.Store(&work{messages: messages, recent: recent, window: window})
	}
}

// HasRead says that the engine has read all that.
func (s *Start) HasRead() {
	if s == nil {
		return
	}
	if w := s.work.Load(); w != nil {
		w.done.Store(true)
	}
}

// End may be called more than once, and of none.
func (s *Start) End() {
	if s == nil {
		return
	}
	s.once.Do(func() { close(s.quit) })
	<-s.done
}

func (s *Start) tell() {
	defer close(s.done)
	next := time.NewTimer(startTold)
	defer next.Stop()
	select {
	case <-s.quit:
		return
	case <-next.C:
	}
	lock := flock.New(s.path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	tick := time.NewTicker(startTold)
	defer tick.Stop()
	var said time.Time
	for {
		words := s.words()
		if time.Since(said) >= startEvery {
			said = time.Now()
			s.waiting("starting: " + words)
		}
		if !lock.Locked() {
			_, _ = lock.TryLock() // a process that looks shares the lock for a moment: then at the next tick
		}
		if b, err := json.Marshal(Told{os.Getpid(), s.began.UnixMilli(), words}); err == nil && lock.Locked() {
			_ = os.WriteFile(s.path, b, 0o600) // the lock alone says the most of it
		}
		select {
		case <-s.quit:
			_ = os.Remove(s.path) // without a lock it means nothing
			_ = lock.Close()
			return
		case <-tick.C:
		}
	}
}

// words describe how much the engine has to read and how far it can be by now: the engine
// itself reports no progress.
func (s *Start) words() string {
	so := time.Since(s.began).Round(time.Second)
	w := s.work.Load()
	if w == nil {
		return fmt.Sprintf("it reads the log's files; %s so far", so)
	}
	if w.done.Load() {
		return fmt.Sprintf("the engine has read the log, and the host looks at it; %s so far", so)
	}
	words := fmt.Sprintf("the engine reads the log, %d events and guards", w.messages)
	if w.recent > 0 {
		words += fmt.Sprintf(", and the id of each of the some %d of the last %s, which takes it some %s on an idle machine",
			w.recent, w.window, max(time.Second, (time.Duration(w.recent)*idTime).Round(time.Second)))
	}
	return words + fmt.Sprintf("; %s so far", so)
}

// work is the part of the store that the engine reads when it starts.
type work struct {
	messages, recent uint64
	window           time.Duration
	done             atomic.Bool
}
