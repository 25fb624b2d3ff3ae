package wire_test

import (
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/wire"
)

func TestCheckLogAcceptsOurOwn(t *testing.T) {
	for _, replicas := range []int{0, 1, 3} {
		for _, window := range []time.Duration{0, 2 * time.Second, time.Hour} {
			require.NoError(t, wire.CheckLog(wire.LogConfig(replicas, window), window))
		}
	}
	require.Equal(t, 1, wire.LogConfig(0, 0).Replicas)
	require.Equal(t, wire.DefaultDuplicateWindow, wire.LogConfig(1, 0).Duplicates)
}

func TestCheckLogAcceptsStricterAndHarmlessSettings(t *testing.T) {
	c := wire.LogConfig(1, 0)
	c.Duplicates = 20 * time.Minute
	c.MaxMsgs, c.MaxBytes, c.MaxMsgsPerSubject, c.MaxMsgSize = 0, 0, 0, 0
	c.Compression = jetstream.S2Compression
	c.Replicas = 5
	c.FirstSeq = 5001
	c.Description = "ours"
	c.Subjects = []string{wire.AllGuards, wire.AllEvents}
	require.NoError(t, wire.CheckLog(c, 0))
	require.NoError(t, wire.CheckLog(wire.MarkRestoring(c, true), 0))
}

func TestCheckLogNamesTheWeakSetting(t *testing.T) {
	for setting, weaken := range map[string]func(*jetstream.StreamConfig){
		"metadata durablestream.format":  func(c *jetstream.StreamConfig) { c.Metadata = nil },
		"subjects":                       func(c *jetstream.StreamConfig) { c.Subjects = []string{wire.AllEvents} },
		"storage":                        func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"retention":                      func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
		"deny_delete":                    func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		"deny_purge":                     func(c *jetstream.StreamConfig) { c.DenyPurge = false },
		"allow_rollup_hdrs":              func(c *jetstream.StreamConfig) { c.AllowRollup = true },
		"allow_msg_ttl":                  func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true },
		"allow_msg_counter":              func(c *jetstream.StreamConfig) { c.AllowMsgCounter = true },
		"allow_msg_schedules":            func(c *jetstream.StreamConfig) { c.AllowMsgSchedules = true },
		"no_ack":                         func(c *jetstream.StreamConfig) { c.NoAck = true },
		"max_msgs":                       func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 },
		"max_bytes":                      func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 40 },
		"max_age":                        func(c *jetstream.StreamConfig) { c.MaxAge = 1000 * time.Hour },
		"max_msgs_per_subject":           func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"max_msg_size":                   func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 20 },
		"allow_atomic":                   func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"allow_direct":                   func(c *jetstream.StreamConfig) { c.AllowDirect = false },
		"persist_mode":                   func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode },
		"sealed":                         func(c *jetstream.StreamConfig) { c.Sealed = true },
		"mirror or sources":              func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "OTHER"}} },
		"subject transform or republish": func(c *jetstream.StreamConfig) { c.RePublish = &jetstream.RePublish{Destination: "x"} },
		"duplicate_window":               func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute },
	} {
		c := wire.LogConfig(1, 0)
		weaken(&c)
		err := wire.CheckLog(c, 0)
		var weak *event.WeakLogError
		require.ErrorAs(t, err, &weak, setting)
		require.Equal(t, setting, weak.Setting)
		require.ErrorContains(t, err, "has "+setting+" "+weak.Have+", and needs "+weak.Want)
	}

	c := wire.LogConfig(1, 0)
	c.Mirror = &jetstream.StreamSource{Name: "OTHER"}
	require.Error(t, wire.CheckLog(c, 0))
	c = wire.LogConfig(1, 0)
	c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: ">", Destination: "x.>"}
	require.Error(t, wire.CheckLog(c, 0))
}

func TestCheckLogRefusesANewerFormat(t *testing.T) {
	for _, format := range []string{"2", "10", "1.1", "next"} {
		c := wire.LogConfig(1, 0)
		c.Metadata = map[string]string{"durablestream.format": format}
		c.DenyDelete = false // whatever else it is
		var newer *event.NewerFormatError
		require.ErrorAs(t, wire.CheckLog(c, 0), &newer, format)
		require.Equal(t, format, newer.Have)
		require.ErrorContains(t, newer, "use a newer dstream")
	}
}

func TestRestoringMark(t *testing.T) {
	c := wire.LogConfig(1, 0)
	before := maps.Clone(c.Metadata)
	on := wire.MarkRestoring(c, true)
	require.True(t, wire.IsRestoring(on))
	require.False(t, wire.IsRestoring(c), "the given configuration stays as it was")
	require.False(t, wire.IsRestoring(wire.MarkRestoring(on, false)))
	require.Equal(t, before, wire.MarkRestoring(on, false).Metadata)
	require.NotPanics(t, func() { wire.MarkRestoring(jetstream.StreamConfig{}, true) })
}
