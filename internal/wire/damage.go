package wire

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
)

// ErrDamaged means that a store lacks the end of its Log, so that no process may host it
// before a repair.
var ErrDamaged = errors.New("the log's end is damaged")

// Range is a run of Sequences.
type Range = event.Range

// metaDamaged, and a node's name behind a dot in a cluster, names what is damaged in a
// copy of the Log.
const metaDamaged = "durablestream.damaged"

// mostMarked bounds the number of ranges in a mark: the last range includes all further
// ones.
const mostMarked = 16

func damagedKey(node string) string {
	if node == "" {
		return metaDamaged
	}
	return metaDamaged + "." + node
}

// MarkDamaged returns cfg with a mark of the damaged ranges in a node's copy of the Log
// ("" for a single host), or without a mark if there are none. Every reader of the Log's
// state sees the mark.
func MarkDamaged(cfg jetstream.StreamConfig, node string, damaged []Range) jetstream.StreamConfig {
	meta := maps.Clone(cfg.Metadata)
	if meta == nil {
		meta = map[string]string{}
	}
	if len(damaged) == 0 {
		delete(meta, damagedKey(node))
	} else {
		meta[damagedKey(node)] = encodeRanges(damaged)
	}
	cfg.Metadata = meta
	return cfg
}

// Unmark removes the marks of all nodes from a Log's metadata.
func Unmark(metadata map[string]string) {
	maps.DeleteFunc(metadata, func(k, _ string) bool {
		rest, ok := strings.CutPrefix(k, metaDamaged)
		return ok && (rest == "" || rest[0] == '.')
	})
}

// Damaged returns the marked ranges, by node.
func Damaged(cfg jetstream.StreamConfig) map[string][]Range {
	var out map[string][]Range
	for k, v := range cfg.Metadata {
		node, ok := strings.CutPrefix(k, metaDamaged)
		if !ok || node != "" && node[0] != '.' {
			continue
		}
		if out == nil {
			out = map[string][]Range{}
		}
		out[strings.TrimPrefix(node, ".")] = decodeRanges(v)
	}
	return out
}

func encodeRanges(rs []Range) string {
	if len(rs) > mostMarked {
		last := rs[len(rs)-1]
		rs = append(rs[:mostMarked-1:mostMarked-1], Range{From: rs[mostMarked-1].From, To: last.To})
	}
	parts := make([]string, len(rs))
	for i, r := range rs {
		parts[i] = fmt.Sprintf("%d-%d", r.From, r.To)
	}
	return strings.Join(parts, ",")
}

// decodeRanges reads a mark. A mark that it cannot read means that every position may be
// damaged.
func decodeRanges(s string) []Range {
	var out []Range
	for part := range strings.SplitSeq(s, ",") {
		a, b, ok := strings.Cut(part, "-")
		from, err1 := strconv.ParseUint(a, 10, 64)
		to, err2 := strconv.ParseUint(b, 10, 64)
		if !ok || err1 != nil || err2 != nil {
			return []Range{{From: 1}}
		}
		out = append(out, Range{From: event.Sequence(from), To: event.Sequence(to)})
	}
	return out
}

// SameMarks reports whether two configurations of the Log have the same marks.
func SameMarks(a, b jetstream.StreamConfig) bool { return maps.Equal(a.Metadata, b.Metadata) }
