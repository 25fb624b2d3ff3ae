package event_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

func TestParseSequence(t *testing.T) {
	for s, want := range map[string]event.Sequence{
		"0": 0, "1": 1, "860": 860, "007": 7, "18446744073709551615": 1<<64 - 1,
	} {
		got, err := event.ParseSequence(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got)
	}
	for _, s := range []string{"", " 1", "1 ", "+1", "-1", "0x10", "1_000", "1e3", "1.0", "ü", "18446744073709551616"} {
		_, err := event.ParseSequence(s)
		requireInvalid(t, err, "seq", "whole number")
	}
	require.Equal(t, "18446744073709551615", event.Sequence(1<<64-1).String())
	require.True(t, event.Sequence(0).IsZero())
	require.False(t, event.Sequence(1).IsZero())
}

func TestInvalidErrorCutsLongValues(t *testing.T) {
	err := &event.InvalidError{Field: "payload", Value: strings.Repeat("ü", 1000), Rule: "must be JSON"}
	require.Less(t, len(err.Error()), 300)
	require.Contains(t, err.Error(), "(2000 bytes)")
}
