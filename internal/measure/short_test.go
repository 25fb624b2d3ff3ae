package measure

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever is measured when it is ended, Short says so, and the host is gone: another one
// can be started in its place.
func TestShortIsEndedAnywhere(t *testing.T) {
	t.Parallel()
	var all []string
	_, err := Short(t.Context(), t.TempDir(), 100*time.Millisecond, func(what string) { all = append(all, what) })
	require.NoError(t, err)
	require.Contains(t, all, "starting")
	for _, at := range all {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := Short(ctx, dir, 100*time.Millisecond, func(what string) {
				if what == at {
					cancel()
				}
			})
			require.Error(t, err)
			require.True(t, errors.Is(err, context.Canceled), "%v", err)
			h, err := Start(t.Context(), dir+"/log")
			require.NoError(t, err)
			require.NoError(t, h.Stop(t.Context()))
		})
	}
}
