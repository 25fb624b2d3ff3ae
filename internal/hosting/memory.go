package hosting

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// hostMemory is the memory limit of a host, in bytes, while it needs no more.
const hostMemory = 128 << 20

// BoundMemory limits the memory of a host until ctx ends. The engine keeps the blocks
// that it has read only until the next garbage collection, and Go collects when memory
// has doubled. So one read of a log of 600 MB turns a host of 60 MB into one of 1.2 GB.
// If the host needs more, for example for the ids of a busy log's duplicate window, the
// collections take time, and the limit rises. BoundMemory does nothing if the environment
// has GOMEMLIMIT.
func BoundMemory(ctx context.Context) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return
	}
	cpu := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}}
	look := time.NewTicker(time.Second)
	defer look.Stop()
	var gc, total float64 // as of the last look
	for limit := int64(hostMemory); ; {
		debug.SetMemoryLimit(limit)
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		metrics.Read(cpu)
		if now := cpu[1].Value.Float64(); now > total { // updated at each collection
			limit = nextLimit(limit, (cpu[0].Value.Float64()-gc)/(now-total))
			gc, total = cpu[0].Value.Float64(), now
		}
	}
}

// nextLimit moves the limit by the share of CPU time that the collections took.
func nextLimit(limit int64, collecting float64) int64 {
	switch {
	case collecting > 0.2:
		return limit / 2 * 3
	case collecting < 0.02:
		return max(hostMemory, limit/8*7)
	}
	return limit
}
