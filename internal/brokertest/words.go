package brokertest

import (
	"bytes"
	"sync"
)

// Words is what a log or a process says, which may be read while it is written.
type Words struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (w *Words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

// String is all that was said so far.
func (w *Words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}
