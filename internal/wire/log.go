package wire

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/engine"
)

const (
	// LogName is the name of the JetStream stream that is the Log.
	LogName = "EVENTS"

	// Format is the version of the format that this package writes. A program refuses a
	// Log of a later format.
	Format = 1

	// DefaultDuplicateWindow is how long the engine remembers event ids.
	DefaultDuplicateWindow = 10 * time.Minute

	metaFormat    = "durablestream.format"
	metaRestoring = "durablestream.restoring"
)

// Error codes of the engine that callers branch on: see package engine.
const (
	CodeDiskFull          = engine.CodeDiskFull
	CodeNoPeers           = engine.CodeNoPeers
	CodeNoResources       = engine.CodeNoResources
	CodeStorageFull       = engine.CodeStorageFull
	CodeTooLarge          = engine.CodeTooLarge
	CodeWrongLast         = engine.CodeWrongLast
	CodeWrongLastInFlight = engine.CodeWrongLastInFlight
	CodeDuplicateInFlight = engine.CodeDuplicateInFlight
	CodeBatchIncomplete   = engine.CodeBatchIncomplete
	CodeBatchTooLarge     = engine.CodeBatchTooLarge
	CodeBatchDuplicate    = engine.CodeBatchDuplicate
	CodeBatchInFlight     = engine.CodeBatchInFlight
)

// The status of a host's own refusal. Its code is always CodeDiskFull, so that an older
// client waits for space.
const (
	StatusDiskFull = 503
	StatusReadOnly = 423 // the disk cannot be written at all
	StatusTorn     = 424 // the Log ends with a part of a batch
)

// LogConfig is the configuration that a Log is created with.
func LogConfig(replicas int, window time.Duration) jetstream.StreamConfig {
	if window == 0 {
		window = DefaultDuplicateWindow
	}
	return jetstream.StreamConfig{
		Name:               LogName,
		Description:        "Durable Stream: the log of what agents do",
		Subjects:           []string{AllEvents, AllGuards},
		Storage:            jetstream.FileStorage,
		Replicas:           max(replicas, 1),
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardNew,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgSize:         -1,
		MaxMsgsPerSubject:  -1,
		MaxConsumers:       -1,
		Duplicates:         window,
		DenyDelete:         true,
		DenyPurge:          true,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		Metadata:           map[string]string{metaFormat: strconv.Itoa(Format)},
	}
}

// CheckLog compares an existing stream with what a Log must be. It returns a
// *event.NewerFormatError or a *event.WeakLogError; a stricter setting is no error.
func CheckLog(have jetstream.StreamConfig, window time.Duration) error {
	if window == 0 {
		window = DefaultDuplicateWindow
	}
	if v := have.Metadata[metaFormat]; v != "" {
		if n, err := strconv.Atoi(v); err != nil || n > Format {
			return &event.NewerFormatError{Have: v, Known: Format}
		}
	}
	subjects := slices.Clone(have.Subjects)
	slices.Sort(subjects)
	for _, c := range []struct {
		ok                  bool
		setting, have, want string
	}{
		{have.Metadata[metaFormat] != "", "metadata " + metaFormat, "(none)", strconv.Itoa(Format) + ": this stream was not made by Durable Stream"},
		{slices.Equal(subjects, []string{AllEvents, AllGuards}), "subjects", fmt.Sprint(subjects), fmt.Sprint([]string{AllEvents, AllGuards})},
		{have.Storage == jetstream.FileStorage, "storage", have.Storage.String(), "File"},
		{have.Retention == jetstream.LimitsPolicy, "retention", have.Retention.String(), "Limits"},
		{have.DenyDelete, "deny_delete", "false", "true"},
		{have.DenyPurge, "deny_purge", "false", "true"},
		{!have.AllowRollup, "allow_rollup_hdrs", "true", "false"},
		{!have.AllowMsgTTL, "allow_msg_ttl", "true", "false"},
		{!have.AllowMsgCounter, "allow_msg_counter", "true", "false"},
		{!have.AllowMsgSchedules, "allow_msg_schedules", "true", "false"},
		{!have.NoAck, "no_ack", "true", "false"},
		{have.MaxMsgs <= 0, "max_msgs", fmt.Sprint(have.MaxMsgs), "no limit (-1)"},
		{have.MaxBytes <= 0, "max_bytes", fmt.Sprint(have.MaxBytes), "no limit (-1)"},
		{have.MaxAge == 0, "max_age", have.MaxAge.String(), "no limit (0)"},
		{have.MaxMsgsPerSubject <= 0, "max_msgs_per_subject", fmt.Sprint(have.MaxMsgsPerSubject), "no limit (-1)"},
		{have.MaxMsgSize <= 0, "max_msg_size", fmt.Sprint(have.MaxMsgSize), "no limit (-1)"},
		{have.AllowAtomicPublish, "allow_atomic", "false", "true"},
		{have.AllowDirect, "allow_direct", "false", "true"},
		{have.PersistMode == jetstream.DefaultPersistMode, "persist_mode", "async", "default: async acknowledges before it syncs"},
		{!have.Sealed, "sealed", "true", "false"},
		{have.Mirror == nil && len(have.Sources) == 0, "mirror or sources", "set", "none"},
		{have.SubjectTransform == nil && have.RePublish == nil, "subject transform or republish", "set", "none"},
		{have.Duplicates >= window, "duplicate_window", have.Duplicates.String(), window.String() + " or more"},
	} {
		if !c.ok {
			return &event.WeakLogError{Setting: c.setting, Have: c.have, Want: c.want}
		}
	}
	return nil
}

// KnownFormat reports a stream that Durable Stream has made, in a format that this
// program knows, whatever its other settings are.
func KnownFormat(cfg jetstream.StreamConfig) bool {
	n, err := strconv.Atoi(cfg.Metadata[metaFormat])
	return err == nil && n <= Format
}

// CheckReplicas returns a *event.WeakLogError for a Log on fewer nodes than want.
func CheckReplicas(have jetstream.StreamConfig, want int) error {
	if have.Replicas < want {
		return &event.WeakLogError{Setting: "num_replicas", Have: strconv.Itoa(have.Replicas), Want: strconv.Itoa(want) + " or more"}
	}
	return nil
}

// MarkRestoring returns cfg with or without the mark of a restore in progress.
func MarkRestoring(cfg jetstream.StreamConfig, on bool) jetstream.StreamConfig {
	meta := map[string]string{}
	for k, v := range cfg.Metadata {
		meta[k] = v
	}
	delete(meta, metaRestoring)
	if on {
		meta[metaRestoring] = "true"
	}
	cfg.Metadata = meta
	return cfg
}

// IsRestoring reports that a restore was begun and has not ended.
func IsRestoring(cfg jetstream.StreamConfig) bool { return cfg.Metadata[metaRestoring] != "" }

// StatusSubject is the subject at which the host reports its own state. It is outside the
// Log's subjects: the Log does not store these messages.
const StatusSubject = "ds.host.status"

// CheckSubject is where a host answers, after a look at its files, what of its copy of
// the Log is damaged: a JSON array of Range. node is its name in a cluster, "" is a lone
// host, and "*" stands for all.
func CheckSubject(node string) string {
	const prefix = "ds.host.check"
	switch node {
	case "":
		return prefix
	case "*":
		return prefix + ".*"
	}
	return prefix + "." + Token(node)
}

// DigestSubject is where the node of a cluster answers what its copy of the Log holds, for
// comparison with other copies: package blocks has question and answer. No role but the
// admin's may ask, since the node reads its whole copy for it.
func DigestSubject(node string) string { return "ds.host.digest." + Token(node) }

// DirectSubject is where the Log takes direct reads, under the prefix of the engine's
// API; "" is the engine's own.
func DirectSubject(prefix string) string {
	if prefix == "" {
		prefix = jetstream.DefaultAPIPrefix
	}
	return strings.TrimSuffix(prefix, ".") + ".DIRECT.GET." + LogName
}

// GetSubject is where the Log takes requests for single messages, which its leader answers,
// under the prefix of the engine's API; "" is the engine's own.
func GetSubject(prefix string) string {
	if prefix == "" {
		prefix = jetstream.DefaultAPIPrefix
	}
	return strings.TrimSuffix(prefix, ".") + ".STREAM.MSG.GET." + LogName
}

// NextSubject is where a consumer of the Log takes pull requests, under the prefix of
// the engine's API; "" is the engine's own.
func NextSubject(prefix, consumer string) string {
	if prefix == "" {
		prefix = jetstream.DefaultAPIPrefix
	}
	return strings.TrimSuffix(prefix, ".") + ".CONSUMER.MSG.NEXT." + LogName + "." + consumer
}
