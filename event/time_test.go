package event

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestValidateTimestamp(t *testing.T) {
	t.Parallel()
	const wrong = 200_000_000 // the clock of a machine that was started two days ago, in 1970
	for _, ms := range []int64{0, 7, 99_999_999, 100_000_000_000, 1_796_046_000_000, 99_999_999_999_999} {
		require.NoError(t, ValidateTimestamp(time.UnixMilli(ms)), ms)
	}
	for ms, words := range map[int64]string{
		100_000_000: "seconds", 1_796_046_000: "seconds", 99_999_999_999: "seconds",
		100_000_000_000_000: "microseconds", 1_796_046_000_000_000: "microseconds", math.MaxInt64: "nanoseconds",
	} {
		err := ValidateTimestamp(time.UnixMilli(ms))
		require.ErrorContains(t, err, words)
		require.ErrorContains(t, err, "timestamp")
		require.NoError(t, validateTimestamp(ms, func() int64 { return wrong }))
	}
}

// A Time is a number in JSON, as the log has it, and every number that an int64 takes comes
// out as it went in.
func TestTimeInJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"0", "1", "-1", "1796046000000", "9223372036854775807", "-9223372036854775808"} {
		var at Time
		require.NoError(t, json.Unmarshal([]byte(text), &at))
		out, err := json.Marshal(at)
		require.NoError(t, err)
		require.Equal(t, text, string(out))
	}
	for _, text := range []string{"1.5", "1e3", `"1"`, "9223372036854775808", "{}"} {
		require.Error(t, json.Unmarshal([]byte(text), new(Time)), text)
	}
	at := Milli(7)
	require.NoError(t, json.Unmarshal([]byte("null"), &at))
	require.Equal(t, Milli(7), at, "null changes nothing, as with an int64")
	require.True(t, Milli(0).IsZero())
	out, err := json.Marshal(struct {
		A Time `json:"a"`
		B Time `json:"b,omitzero"`
		C Time `json:"c"`
	}{C: Time{time.UnixMilli(5).Add(999 * time.Microsecond)}})
	require.NoError(t, err)
	require.Equal(t, `{"a":0,"c":5}`, string(out))
}
