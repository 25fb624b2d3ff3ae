package main

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// hostMemory is what a host keeps to, in bytes, while it needs no more.
const hostMemory = 128 << 20

// boundMemory keeps the memory of a host small until ctx ends. The engine keeps the
// blocks that it has read only until the next garbage collection, and Go collects when
// memory has doubled: so who reads a log of 600 MB once makes a host of 1.2 GB out of
// one of 60 MB. What the host really holds, such as the ids of a busy log's duplicate
// window, is allowed for, so that it does not collect without end. A GOMEMLIMIT in the
// environment is left alone.
func boundMemory(ctx context.Context) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return
	}
	held := []metrics.Sample{{Name: "/gc/heap/live:bytes"}} // as of the last collection
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for limit := int64(hostMemory); ; limit = nextLimit(limit, int64(held[0].Value.Uint64())) {
		debug.SetMemoryLimit(limit)
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			metrics.Read(held)
		}
	}
}

// nextLimit moves the limit to where it leaves room above what is held. It rises in
// steps, since what was held at the last collection is less under a lower limit.
func nextLimit(limit, held int64) int64 {
	switch {
	case held > limit/4*3:
		return limit / 4 * 5
	case held < limit/2:
		return max(hostMemory, limit/4*3)
	}
	return limit
}
