package hosting

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// hostMemory is what a host keeps to, in bytes, while it needs no more.
const hostMemory = 128 << 20

// BoundMemory keeps the memory of a host small until ctx ends. The engine keeps the
// blocks that it has read only until the next garbage collection, and Go collects when
// memory has doubled: so who reads a log of 600 MB once makes a host of 1.2 GB out of
// one of 60 MB. Where the host needs more, as for the ids of a busy log's duplicate
// window, collecting takes its time, and the bound rises. A GOMEMLIMIT in the
// environment is left alone.
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
		if now := cpu[1].Value.Float64(); now > total { // it is counted at each collection
			limit = nextLimit(limit, (cpu[0].Value.Float64()-gc)/(now-total))
			gc, total = cpu[0].Value.Float64(), now
		}
	}
}

// nextLimit moves the limit, by the part of the processors' time that collecting took.
func nextLimit(limit int64, collecting float64) int64 {
	switch {
	case collecting > 0.2:
		return limit / 2 * 3
	case collecting < 0.02:
		return max(hostMemory, limit/8*7)
	}
	return limit
}
