package fence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/wire"
)

// limit is a setting by which the engine deletes stored messages when it recovers a
// stream, before any code of ours runs. Only an update by another client, or a crash
// during an update of our own, leaves such a limit in a Log's configuration.
type limit struct {
	name string
	set  func(jetstream.StreamConfig) bool
	none string // the value that stands for no limit; "": the key is removed
}

var limits = []limit{
	{"max_age", func(c jetstream.StreamConfig) bool { return c.MaxAge != 0 }, "0"},
	{"max_msgs", func(c jetstream.StreamConfig) bool { return c.MaxMsgs > 0 }, "-1"},
	{"max_bytes", func(c jetstream.StreamConfig) bool { return c.MaxBytes > 0 }, "-1"},
	{"max_msgs_per_subject", func(c jetstream.StreamConfig) bool { return c.MaxMsgsPerSubject > 0 }, "-1"},
	{"discard_new_per_subject", func(c jetstream.StreamConfig) bool { return c.DiscardNewPerSubject }, ""}, // needs the one above
	{"retention", func(c jetstream.StreamConfig) bool { return c.Retention != jetstream.LimitsPolicy }, `"limits"`},
	{"allow_msg_ttl", func(c jetstream.StreamConfig) bool { return c.AllowMsgTTL }, "false"},
	{"subject_delete_marker_ttl", func(c jetstream.StreamConfig) bool { return c.SubjectDeleteMarkerTTL != 0 }, ""},
	{"allow_msg_schedules", func(c jetstream.StreamConfig) bool { return c.AllowMsgSchedules }, ""},
}

// withoutLimits returns the configuration of the stream in dir without limits and with
// all other settings unchanged, and describes the removed limits; "" if there was none,
// or if the stream is not a Log of ours.
func withoutLimits(dir string, meta []byte) (mended []byte, words string, err error) {
	var cfg jetstream.StreamConfig
	if err := json.Unmarshal(meta, &cfg); err != nil {
		return nil, "", err
	}
	if !ours(cfg) {
		return meta, "", nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(meta, &all); err != nil {
		return nil, "", err
	}
	first, err := firstIn(dir, cfg.FirstSeq)
	if err != nil {
		return nil, "", err
	}
	var off []string
	if first > 0 && first < cfg.FirstSeq {
		// The engine accepts a first Sequence in any update, and purges up to it at its
		// next start, whatever deny_purge says.
		off = append(off, fmt.Sprintf("first_seq %d, where the first event or guard is %d", cfg.FirstSeq, first))
		all["first_seq"] = json.RawMessage(fmt.Sprint(first))
	}
	for _, l := range limits {
		if !l.set(cfg) {
			continue
		}
		off = append(off, fmt.Sprintf("%s %s", l.name, bytes.TrimSpace(all[l.name])))
		delete(all, l.name)
		if l.none != "" {
			all[l.name] = json.RawMessage(l.none)
		}
	}
	if len(off) == 0 {
		return meta, "", nil
	}
	mended, err = json.Marshal(all)
	return mended, strings.Join(off, ", "), err
}

// firstIn is the first Sequence in a stream's blocks, where it matters: below it nothing
// can be purged. It is 0 where there is none, or none that can be read.
func firstIn(dir string, limit uint64) (uint64, error) {
	if limit <= 1 {
		return 0, nil
	}
	files, err := blocks.List(filepath.Join(dir, engine.MessagesDir))
	for _, f := range files {
		b, err := blocks.CheckFile(f)
		if err != nil || b.Records > 0 {
			return uint64(b.First), err
		}
	}
	return 0, err
}

// ours reports whether Durable Stream has created the stream, in a format that this
// program knows. The limits of a newer program may be intended.
func ours(cfg jetstream.StreamConfig) bool { return cfg.Name == wire.LogName && wire.KnownFormat(cfg) }
