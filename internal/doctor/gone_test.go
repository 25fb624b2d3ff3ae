package doctor

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/mirror"
)

// An error that advises to call the doctor loses that advice in the doctor's own words.
func TestDoctorDoesNotAdviseItself(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&mirror.AheadError{File: "f", FileSeq: 2, LogSeq: 1}, &mirror.GapError{After: 1}, &mirror.GapError{After: 1, Next: 3},
		&client.DamageError{From: 1, To: 2}, &broker.DamagedError{Dir: "d"}, &broker.NotOpenError{Dir: "d"},
	} {
		require.Contains(t, err.Error(), "dstream doctor")
		text := inDoctor(fmt.Errorf("it failed: %w", err))
		require.True(t, strings.HasPrefix(text, "it failed: "), text)
		require.NotContains(t, text, "dstream doctor")
	}
	require.Equal(t, "other", inDoctor(errors.New("other")))
}
