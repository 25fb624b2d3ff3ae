package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/client"
	st "durablestream/internal/status"
)

// docs/operations.md names every field of status --json and every alarm.
func TestOperationsNamesEverything(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(top("docs/operations.md"))
	require.NoError(t, err)
	text := string(b)
	for _, v := range []any{st.Answer{}, st.Node{}, st.Alarm{}, durablestream.HostStatus{}, client.Replica{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			require.NotEmpty(t, name, "%s.%s", typ, typ.Field(i).Name)
			require.True(t, strings.Contains(text, "`"+name+"`"), "%s of %s", name, typ)
		}
	}
	for _, name := range []string{
		st.AlarmStopped, st.AlarmWaiting, st.AlarmUnreadable, st.AlarmMissing, st.AlarmDamaged, st.AlarmMirror, st.AlarmMismatch,
		st.AlarmSweeper, st.AlarmDisk, st.AlarmStuck, st.AlarmLeader, st.AlarmOffline, st.AlarmBehind, st.AlarmSilent, st.AlarmCopy, st.AlarmTorn,
	} {
		require.True(t, strings.Contains(text, "| `"+name+"` |"), name)
	}
}
