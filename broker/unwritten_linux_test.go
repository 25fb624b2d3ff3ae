package broker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/internal/sickdisk"
	"durablestream/internal/wire"
)

// fullBlock is a host on a small disk of its own whose next append goes into a new block.
type fullBlock struct {
	*brokertest.Host
	disk, dir string // dir: of the blocks
	client    *client.Client
	n         event.Sequence // events
	next      event.Event
}

const fullBlockSize = 200_000 // of an event

func newFullBlock(t *testing.T) *fullBlock {
	t.Helper()
	f := &fullBlock{disk: smallDisk(t)}
	f.Host = brokertest.Start(t, func(c *broker.Config) { c.Dir, c.DiskFloor = filepath.Join(f.disk, "host"), -1 })
	f.client = f.NewClient(t, client.Config{OwnHost: true})
	f.next = newEvent(ofSize(fullBlockSize))
	f.next.ID = event.NewID()
	for f.dir == "" || f.files(t)[0].Size+fullBlockSize+1_000 < 8<<20 {
		_, err := f.client.Append(t.Context(), newEvent(ofSize(fullBlockSize)))
		require.NoError(t, err)
		f.n++
		dirs, err := blocks.Find(filepath.Join(f.Config.Dir, broker.StoreDir))
		require.NoError(t, err)
		f.dir = dirs[0]
	}
	require.Len(t, f.files(t), 1)
	return f
}

func (f *fullBlock) files(t *testing.T) []blocks.File {
	t.Helper()
	files, err := blocks.List(f.dir)
	require.NoError(t, err)
	return files
}

// fail lets the next append find no byte for it, and the engine is stuck.
func (f *fullBlock) fail(t *testing.T) {
	t.Helper()
	undo, err := sickdisk.FillBytes(f.disk, 0)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = f.client.Append(ctx, f.next)
	require.ErrorIs(t, err, client.ErrUnknownOutcome)
	require.Zero(t, f.files(t)[1].Size)
	require.NoError(t, undo())
}

// read queries all, with a filter, which asks the host to look at its files, and without one.
func (f *fullBlock) read(t *testing.T) error {
	t.Helper()
	return f.readWithin(t.Context(), t)
}

func (f *fullBlock) readWithin(ctx context.Context, t *testing.T) error {
	t.Helper()
	for _, filter := range []event.Filter{{Types: []string{"test.*"}}, {}} {
		n := event.Sequence(0)
		for _, err := range f.client.Query(ctx, filter) {
			if err != nil {
				return err
			}
			n++
		}
		require.Equal(t, f.n, n)
	}
	require.Empty(t, f.Broker.Checked().Damage)
	return nil
}

// whole demands that what failed is stored now, that nothing is left out, and that a reader who was there
// all the time got it.
func (f *fullBlock) whole(t *testing.T, c *client.Client) {
	t.Helper()
	r, err := c.Append(t.Context(), f.next)
	require.NoError(t, err)
	f.n++
	require.Equal(t, f.n, r.Seq)
	f.client = c
	require.NoError(t, f.read(t))
	s, err := c.Admin().State(t.Context())
	require.NoError(t, err)
	require.Zero(t, s.Missing)
	require.Equal(t, f.n, s.Last)
}

// A disk that is full just where a new block begins: the engine counts the message that it
// could not write as its last. That is no damage, and costs no Sequence, whether the engine
// starts again in this process or in another.
func TestFirstMessageOfABlockIsNotWritten(t *testing.T) {
	t.Parallel()
	t.Run("and the engine starts again", func(t *testing.T) {
		t.Parallel()
		f := newFullBlock(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		seen := make(chan error, 1000)
		go func() {
			for _, err := range f.client.Subscribe(ctx, event.Filter{Types: []string{"test.*"}}) {
				seen <- err
			}
		}()
		for range f.n {
			require.NoError(t, <-seen)
		}
		f.fail(t)
		require.NoError(t, f.read(t))
		end, err := f.client.Position(t.Context())
		require.NoError(t, err)
		require.Equal(t, f.n, end)
		f.Broker.RestartEngine()
		f.whole(t, f.client)
		require.NoError(t, <-seen)
	})
	t.Run("and the host starts again", func(t *testing.T) {
		longtest.Only(t, "it fills another block; the engine starts again on the same files above")
		t.Parallel()
		f := newFullBlock(t)
		f.fail(t)
		f.Stop(t)
		last, _ := blocks.LastWritten(f.dir)
		require.Equal(t, f.n, last)
		f.Boot(t)
		f.whole(t, f.NewClient(t, client.Config{OwnHost: true}))
	})
}

// What looks alike and is damage is told.
func TestNewestBlockIsEmptyAndDamaged(t *testing.T) {
	t.Parallel()
	damaged := func(t *testing.T, f *fullBlock, from event.Sequence) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { // the host may find it first, and then cuts off the reader
			select {
			case <-f.Broker.Evicted():
				cancel()
			case <-ctx.Done():
			}
		}()
		err := f.readWithin(ctx, t)
		var d *client.DamageError
		if errors.As(err, &d) {
			require.Equal(t, from, d.From)
			return
		}
		require.ErrorIs(t, err, context.Canceled)
		var ended *broker.DamagedError
		require.ErrorAs(t, f.Broker.WhyEvicted(), &ended)
		require.Equal(t, from, ended.Found[0].From)
	}
	t.Run("its only message was stored", func(t *testing.T) {
		t.Parallel()
		f := newFullBlock(t)
		_, err := f.client.Append(t.Context(), f.next)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(f.files(t)[1].Path, 0))
		damaged(t, f, f.n+1)
	})
	t.Run("its only message was stored before the host stopped", func(t *testing.T) {
		longtest.Only(t, "it fills another block; TestDoctorKnowsTheLastStop of cmd/dstream has a store that lost its end while nobody hosted")
		t.Parallel()
		f := newFullBlock(t)
		_, err := f.client.Append(t.Context(), f.next)
		require.NoError(t, err)
		f.Stop(t)
		require.NoError(t, os.Truncate(f.files(t)[1].Path, 0))
		last, current := blocks.LastWritten(f.dir)
		require.Equal(t, f.n+1, last)
		require.False(t, current)
		_, err = broker.Start(t.Context(), f.Config)
		require.ErrorIs(t, err, wire.ErrDamaged)
	})
	t.Run("the block before it is cut off too", func(t *testing.T) {
		longtest.Only(t, "it fills another block; the one above is damaged in the same way")
		t.Parallel()
		f := newFullBlock(t)
		f.fail(t)
		require.NoError(t, os.Truncate(f.files(t)[0].Path, f.files(t)[0].Size-10))
		damaged(t, f, f.n)
	})
}
