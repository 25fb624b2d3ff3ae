package console

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// A line is broken between words, below where they began, and never inside one.
func TestSheetWraps(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &Sheet{out: &out, width: 30}
	s.Line("ALARM", "the mirror %s: see above", "/a/path/that/is/longer/than/the/line")
	s.Line("alarms", "none")
	require.NoError(t, s.Err())
	require.Equal(t, `ALARM      the mirror
           /a/path/that/is/longer/than/the/line:
           see above
alarms     none
`, out.String())
}
