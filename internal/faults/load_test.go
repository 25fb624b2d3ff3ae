package faults

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/client"
)

// A client that is refused is told, and nobody stays in.
func TestNobodyEntersWhereOneIsRefused(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	var opened, in atomic.Int64
	l := &Load{Clients: 3, History: NewHistory(), Open: func(context.Context) (*client.Client, func(), error) {
		if opened.Add(1) == 2 {
			return nil, nil, refused
		}
		in.Add(1)
		return nil, func() { in.Add(-1) }, nil
	}}
	require.ErrorIs(t, l.Enter(t.Context()), refused)
	require.Zero(t, in.Load())
	l.Run(t.Context()) // with nobody
}
