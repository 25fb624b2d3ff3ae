package event_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"durablestream/event"
)

func valid() event.Event {
	return event.Event{
		ID: "e1", Type: "task.created", StreamID: "s1", CausationID: "e0", CorrelationID: "c1",
		Actor: "user", Timestamp: time.UnixMilli(7), Payload: json.RawMessage(`{}`), Metadata: json.RawMessage(`{}`),
	}
}

// For each bad field of an event the error names the field, the value and the rule.
func TestValidateNamesFieldValueAndRule(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for name, c := range map[string]struct {
		change func(*event.Event)
		field  string
		value  string
		rule   string
	}{
		"no type":              {func(e *event.Event) { e.Type = "" }, "type", "", "2 to 8 tokens"},
		"one token":            {func(e *event.Event) { e.Type = "created" }, "type", "created", "2 to 8 tokens"},
		"nine tokens":          {func(e *event.Event) { e.Type = "a.b.c.d.e.f.g.h.i" }, "type", "a.b.c.d.e.f.g.h.i", "2 to 8 tokens"},
		"wildcard *":           {func(e *event.Event) { e.Type = "task.*" }, "type", "task.*", "A-Z a-z 0-9 _ -"},
		"wildcard >":           {func(e *event.Event) { e.Type = "task.>" }, "type", "task.>", "A-Z a-z 0-9 _ -"},
		"space in type":        {func(e *event.Event) { e.Type = "task. created" }, "type", "task. created", "A-Z a-z 0-9 _ -"},
		"letter in type":       {func(e *event.Event) { e.Type = "task.ü" }, "type", "task.ü", "A-Z a-z 0-9 _ -"},
		"empty token":          {func(e *event.Event) { e.Type = "task..created" }, "type", "task..created", "A-Z a-z 0-9 _ -"},
		"type ends in a dot":   {func(e *event.Event) { e.Type = "task.created." }, "type", "task.created.", "A-Z a-z 0-9 _ -"},
		"type too long":        {func(e *event.Event) { e.Type = "t." + long[:199] }, "type", "t.x", "at most 200 bytes"},
		"no stream":            {func(e *event.Event) { e.StreamID = "" }, "stream_id", "", "must not be empty"},
		"stream too long":      {func(e *event.Event) { e.StreamID = long[:513] }, "stream_id", "xxx", "at most 512 bytes"},
		"stream in bytes":      {func(e *event.Event) { e.StreamID = strings.Repeat("ü", 257) }, "stream_id", "ü", "at most 512 bytes"},
		"stream not UTF-8":     {func(e *event.Event) { e.StreamID = "s\xff" }, "stream_id", `s\xff`, "valid UTF-8"},
		"no id":                {func(e *event.Event) { e.ID = "" }, "id", "", "must not be empty"},
		"id too long":          {func(e *event.Event) { e.ID = long[:257] }, "id", "xxx", "at most 256 bytes"},
		"id with newline":      {func(e *event.Event) { e.ID = "a\nb" }, "id", `a\nb`, "control characters"},
		"id with NUL":          {func(e *event.Event) { e.ID = "\x00" }, "id", `\x00`, "control characters"},
		"id with DEL":          {func(e *event.Event) { e.ID = "\x7f" }, "id", `\x7f`, "control characters"},
		"id with C1":           {func(e *event.Event) { e.ID = "\u0085" }, "id", `\u0085`, "control characters"},
		"id not UTF-8":         {func(e *event.Event) { e.ID = "\xc3" }, "id", `\xc3`, "valid UTF-8"},
		"causation too long":   {func(e *event.Event) { e.CausationID = long[:257] }, "causation_id", "xxx", "at most 256 bytes"},
		"causation control":    {func(e *event.Event) { e.CausationID = "a\tb" }, "causation_id", `a\tb`, "control characters"},
		"no correlation":       {func(e *event.Event) { e.CorrelationID = "" }, "correlation_id", "", "must not be empty"},
		"correlation too long": {func(e *event.Event) { e.CorrelationID = long[:1025] }, "correlation_id", "xxx", "at most 1024 bytes"},
		"no actor":             {func(e *event.Event) { e.Actor = "" }, "actor", "", "must not be empty"},
		"actor too long":       {func(e *event.Event) { e.Actor = long[:1025] }, "actor", "xxx", "at most 1024 bytes"},
		"actor not UTF-8":      {func(e *event.Event) { e.Actor = "\xed\xa0\x80" }, "actor", `\xed\xa0\x80`, "valid UTF-8"},
		"before 1970":          {func(e *event.Event) { e.Timestamp = time.UnixMilli(-12) }, "timestamp", "-12", "0 or later"},
		"no payload":           {func(e *event.Event) { e.Payload = nil }, "payload", "", "must be JSON"},
		"payload not JSON":     {func(e *event.Event) { e.Payload = json.RawMessage(`{a:1}`) }, "payload", `{a:1}`, "must be JSON"},
		"two payloads":         {func(e *event.Event) { e.Payload = json.RawMessage(`{} {}`) }, "payload", `{} {}`, "must be JSON"},
		"payload not UTF-8":    {func(e *event.Event) { e.Payload = json.RawMessage("\"\xff\"") }, "payload", `\xff`, "valid UTF-8"},
		"metadata not JSON":    {func(e *event.Event) { e.Metadata = json.RawMessage(`{`) }, "metadata", `{`, "must be JSON"},
		"metadata an array":    {func(e *event.Event) { e.Metadata = json.RawMessage(`[1]`) }, "metadata", `[1]`, "JSON object"},
		"metadata null":        {func(e *event.Event) { e.Metadata = json.RawMessage(`null`) }, "metadata", `null`, "JSON object"},
		"metadata a string":    {func(e *event.Event) { e.Metadata = json.RawMessage(`"{}"`) }, "metadata", `{}`, "JSON object"},
		"field not JSON": {func(e *event.Event) { e.Extra = []event.Field{{Name: "x", Value: json.RawMessage(`nope`)}} },
			"x", "nope", "must be JSON"},
		"field without value": {func(e *event.Event) { e.Extra = []event.Field{{Name: "x"}} }, "x", "", "must be JSON"},
		"field name not UTF-8": {func(e *event.Event) { e.Extra = []event.Field{{Name: "\xff", Value: json.RawMessage(`1`)}} },
			"field name", `\xff`, "valid UTF-8"},
		"known field as extra": {func(e *event.Event) { e.Extra = []event.Field{{Name: "actor", Value: json.RawMessage(`"me"`)}} },
			"actor", "me", "given twice"},
		"reserved": {func(e *event.Event) { e.Extra = []event.Field{{Name: "seq", Value: json.RawMessage(`12`)}} },
			"seq", "12", "reserved field"},
	} {
		t.Run(name, func(t *testing.T) {
			e := valid()
			require.NoError(t, e.Validate())
			c.change(&e)
			err := e.Validate()
			requireInvalid(t, err, c.field, c.rule)
			require.Contains(t, err.Error(), c.value)
			require.Less(t, len(err.Error()), 500, "a long value is cut in the message")
		})
	}
}

func TestValidateAcceptsTheLimits(t *testing.T) {
	e := valid()
	e.ID = strings.Repeat("i", event.MaxIDLen)
	e.Type = "t." + strings.Repeat("x", event.MaxTypeLen-2)
	e.StreamID = strings.Repeat("ü", event.MaxStreamIDLen/2)
	e.CausationID = ""
	e.CorrelationID = strings.Repeat("\x00", event.MaxCorrelationLen)
	e.Actor = strings.Repeat(" ", event.MaxActorLen)
	e.Timestamp = time.UnixMilli(0)
	e.Payload = json.RawMessage(` null `)
	e.Metadata = json.RawMessage(strings.Repeat(" ", 100) + `{}`)
	e.Extra = []event.Field{{Name: "", Value: json.RawMessage(`1`)}, {Name: "causation_id", Value: json.RawMessage(`null`)}}
	require.NoError(t, e.Validate())

	e.Type = "a.b.c.d.e.f.g.h"
	require.NoError(t, e.Validate())
	e.Metadata, e.Extra = nil, nil
	require.NoError(t, e.Validate())
}

func TestNewIDs(t *testing.T) {
	require.Empty(t, event.NewIDs(0))
	ids := append(event.NewIDs(999), event.NewID())
	require.Len(t, ids, 1000)
	random := map[string]bool{}
	for i, s := range ids {
		id, err := uuid.Parse(s)
		require.NoError(t, err)
		require.Equal(t, uuid.Version(7), id.Version())
		require.Equal(t, id.String(), s)
		if i > 0 {
			require.Less(t, ids[i-1], s, "ascending")
		}
		random[string(id[8:])] = true
	}
	require.Len(t, random, 1000, "each has its own part of chance")
}

func TestNewID(t *testing.T) {
	a, b := event.NewID(), event.NewID()
	require.Less(t, a, b, "ascending")
	id, err := uuid.Parse(a)
	require.NoError(t, err)
	require.Equal(t, uuid.Version(7), id.Version())
	require.NoError(t, event.ValidateID("id", a))
	require.InDelta(t, time.Now().UnixMilli(), event.Now().UnixMilli(), 60_000)
}
