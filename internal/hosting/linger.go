package hosting

import "time"

// lingerYoung is the age up to which a connection counts as that of a process that has
// just joined. An older connection is not that of a short command: its process takes
// over.
const lingerYoung = time.Second

// linger continues to host, for at most d, while processes that have just joined are
// connected. Each take-over starts an engine and reconnects everybody: if 200 short
// commands hand the log over one by one, the last waits for 200 starts.
func (h *host) linger(d, young time.Duration) {
	end := time.NewTimer(d)
	defer end.Stop()
	for h.broker.Joining(young) {
		look := time.NewTimer(10 * time.Millisecond)
		select {
		case <-h.broker.Evicted():
			look.Stop()
			return
		case <-end.C:
			look.Stop()
			return
		case <-look.C:
		}
	}
}
