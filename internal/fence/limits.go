package fence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/internal/wire"
)

// limit is a setting by which the engine deletes stored messages when it recovers a
// stream, before any code of ours runs. Only an update by somebody else, or a crash
// within one of our own, leaves one in a Log's configuration.
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

// withoutLimits gives a configuration without them, every other setting as it is, and
// says in words what it took off; "": there was none, or it is no Log of ours.
func withoutLimits(meta []byte) (mended []byte, words string, err error) {
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
	var off []string
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

// ours reports a stream that Durable Stream has made, of a format that this program
// knows. A newer program may mean its limits.
func ours(cfg jetstream.StreamConfig) bool { return cfg.Name == wire.LogName && wire.KnownFormat(cfg) }
