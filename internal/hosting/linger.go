package hosting

import "time"

// lingerYoung is the age up to which a connection counts as one of a process that has just
// joined. A process that joined before then is no short command: it takes over.
const lingerYoung = time.Second

// linger goes on hosting, for at most d, while processes that have just joined are
// connected. Each take-over starts an engine and reconnects everybody: of 200 short
// commands at once that hand the log over one by one, the last would wait for 200 starts.
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
