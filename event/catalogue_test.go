package event_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

// promised are the types that the README and the design name, a kind a line.
const promised = `
lifecycle.session.created lifecycle.session.idle lifecycle.session.compacted lifecycle.session.error lifecycle.session.deleted lifecycle.session.aborted
execution.message.updated execution.step_start execution.step_finish execution.tool_start execution.tool_finish execution.agent execution.text_delta execution.text_snapshot execution.reasoning_delta execution.reasoning_snapshot execution.snapshot execution.retry
agent.spawned agent.completed agent.failed agent.aborted agent.handoff agent.yield agent.resumed
checkpoint.requested checkpoint.approved checkpoint.rejected checkpoint.expired checkpoint.cancelled checkpoint.cancel_requested checkpoint.guard_voided
files.changed files.patched
learning.extracted
ledger.epic.created ledger.epic.started ledger.epic.completed ledger.epic.failed ledger.epic.archived
ledger.task.created ledger.task.started ledger.task.completed ledger.task.failed ledger.task.yielded
ledger.handoff.created ledger.handoff.resumed
ledger.governance.directive_added ledger.governance.assumption_added
ledger.learning.extracted
progress.phase_started progress.phase_completed progress.status_update progress.user_action_needed progress.context_handoff
task.created task.completed`

func TestCatalogueHasEveryPromisedTypeOnce(t *testing.T) {
	var have []string
	for _, k := range event.Catalogue() {
		have = append(have, k.Type)
		require.NoError(t, event.ValidateType(k.Type))
		require.NotEmpty(t, k.Doc, k.Type)
		require.NotContains(t, k.Doc, "\n", k.Type)
		require.Equal(t, reflect.Struct, reflect.TypeOf(k.Payload).Kind(), k.Type)
		found, ok := event.Lookup(k.Type)
		require.True(t, ok)
		require.Equal(t, k, found)
	}
	require.ElementsMatch(t, strings.Fields(promised), have)
}

func TestCatalogueIsACopy(t *testing.T) {
	event.Catalogue()[0].Type = "changed.type"
	require.Equal(t, event.LifecycleSessionCreated, event.Catalogue()[0].Type)
}

func TestLookupOfAnUnknownType(t *testing.T) {
	_, ok := event.Lookup("my.own.type")
	require.False(t, ok)
}

// Every member of every payload type survives encoding/json, when it is set and
// when it is not.
func TestPayloadsRoundTrip(t *testing.T) {
	for _, k := range event.Catalogue() {
		t.Run(k.Type, func(t *testing.T) {
			full := k.New()
			fill(t, reflect.ValueOf(full).Elem())
			for _, v := range []any{k.New(), full} {
				b, err := json.Marshal(v)
				require.NoError(t, err)
				got := k.New()
				dec := json.NewDecoder(bytes.NewReader(b))
				dec.DisallowUnknownFields()
				require.NoError(t, dec.Decode(got), "%s", b)
				require.Equal(t, v, got, "%s", b)
			}
		})
	}
}

// fill sets every member to something that is not its zero value.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch {
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		v.SetBytes([]byte(`{"n":[1,null,"x"]}`))
	case v.Type() == reflect.TypeFor[event.Time]():
		v.Set(reflect.ValueOf(event.Milli(7)))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case v.Kind() == reflect.String:
		v.SetString("text")
	case v.CanInt():
		v.SetInt(7)
	case v.CanUint():
		v.SetUint(7)
	case v.CanFloat():
		v.SetFloat(0.25)
	default:
		t.Fatalf("fill: no value for %s", v.Type())
	}
}

// What the original module wrote decodes into the catalogue's types, and the types
// name every member of it. (Readers do not ask for that: what a type does not name
// is passed over, and still there in the event.)
func TestLegacyPayloadsDecode(t *testing.T) {
	f, err := os.Open("../internal/legacy/testdata/durable_stream.jsonl")
	require.NoError(t, err)
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	n := 0
	for sc.Scan() {
		e, err := event.Decode(sc.Bytes())
		require.NoError(t, err)
		known, ok := event.Lookup(e.Type)
		require.True(t, ok, "line %d: %s is not in the catalogue", n+1, e.Type)
		dec := json.NewDecoder(bytes.NewReader(e.Payload))
		dec.DisallowUnknownFields()
		require.NoError(t, dec.Decode(known.New()), "line %d: %s", n+1, e.Type)
		n++
	}
	require.NoError(t, sc.Err())
	require.Equal(t, 860, n)
}
