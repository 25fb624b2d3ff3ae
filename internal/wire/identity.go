package wire

import (
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// metaCopy tells a copy of a Log from the Log that it was copied from.
const metaCopy = "durablestream.copy"

// Identity tells one Log from every other: when it was made and, of one that began as a
// copy of another one's directory, a mark of its own. It is the same on all nodes, and
// lasts as long as the Log.
func Identity(created time.Time, cfg jetstream.StreamConfig) string {
	id := strconv.FormatInt(created.UnixNano(), 10)
	if mark := cfg.Metadata[metaCopy]; mark != "" {
		id += "." + mark
	}
	return id
}

// MarkCopy returns cfg with a mark that makes it another Log than the one that it was
// copied from. An older program passes over it.
func MarkCopy(cfg jetstream.StreamConfig, mark string) jetstream.StreamConfig {
	meta := maps.Clone(cfg.Metadata)
	if meta == nil {
		meta = map[string]string{}
	}
	meta[metaCopy] = mark
	cfg.Metadata = meta
	return cfg
}
