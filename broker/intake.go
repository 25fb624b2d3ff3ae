package broker

import "time"

const (
	// findWaiting is how many questions a host keeps waiting. One on top is answered at once:
	// busy, ask again after findRetry.
	findWaiting = 1024
	findRetry   = 100 * time.Millisecond
)
