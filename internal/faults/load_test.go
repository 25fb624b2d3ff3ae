package faults

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/client"
)

// A client that a system lets in only when the load has ended is no error; one that it
// refuses is.
func TestLoadEndsBeforeAClientIsIn(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	l := &Load{Clients: 2, History: NewHistory(), Open: func(ctx context.Context) (*client.Client, func(), error) {
		cancel()
		<-ctx.Done()
		return nil, nil, ctx.Err()
	}}
	require.NoError(t, l.Run(ctx))
	refused := errors.New("refused")
	l.Open = func(context.Context) (*client.Client, func(), error) { return nil, nil, refused }
	require.ErrorIs(t, l.Run(t.Context()), refused)
}
