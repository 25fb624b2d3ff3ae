package broker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"durablestream/broker"
)

// slow makes the engine of the next host stop in the middle of its start, until the
// function that it returns is called: it reads the configuration of a stream, and that is
// a pipe.
func slow(t *testing.T, dir string) (goOn func()) {
	t.Helper()
	other := filepath.Join(dir, broker.StoreDir, "jetstream", "$G", "streams", "OTHER")
	require.NoError(t, os.MkdirAll(other, 0o700))
	pipe := filepath.Join(other, "meta.inf")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	return sync.OnceFunc(func() {
		require.NoError(t, os.Rename(pipe, pipe+".done"))
		// Who reads it is there, or is not yet and finds no file.
		require.Eventually(t, func() bool {
			f, err := os.OpenFile(pipe+".done", os.O_WRONLY|unix.O_NONBLOCK, 0)
			if err == nil {
				_ = f.Close()
			}
			return err == nil || errors.Is(err, unix.ENXIO)
		}, 10*time.Second, time.Millisecond)
	})
}

// A start of the engine that takes long is not given up at a deadline, and says so.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "host")
	goOn := slow(t, dir)
	defer goOn()
	told := make(chan string, 100)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	var b *broker.Broker
	go func() {
		var err error
		b, err = broker.Start(ctx, broker.Config{Dir: dir, Waiting: func(words string) { told <- words }})
		done <- err
	}()
	require.Contains(t, <-told, "starting: the engine reads the log")
	require.Eventually(t, func() bool { return broker.Starting(dir) != nil && broker.Starting(dir).PID != 0 }, 10*time.Second, time.Millisecond)
	require.Equal(t, os.Getpid(), broker.Starting(dir).PID)
	require.ErrorContains(t, broker.Starting(dir), "is starting: the engine reads the log")
	<-ctx.Done()
	_, err := broker.Start(t.Context(), broker.Config{Dir: dir})
	require.ErrorAs(t, err, new(*broker.LockedError))
	require.NotNil(t, broker.Starting(dir), "whoever looks ends nothing")
	goOn()
	require.NoError(t, <-done)
	require.NotNil(t, broker.Starting(dir), "nobody can join yet")
	require.NoError(t, b.Advertise())
	require.Nil(t, broker.Starting(dir))
	require.NoFileExists(t, filepath.Join(dir, broker.StartingFile))
	require.NoError(t, b.Stop(t.Context()))
}

// Who cancels a start gets away at once; the lock is free when the engine has ended.
func TestSlowStartCanceled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "host")
	goOn := slow(t, dir)
	defer goOn()
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan string, 100)
	done := make(chan error, 1)
	go func() {
		_, err := broker.Start(ctx, broker.Config{Dir: dir, Waiting: func(words string) { told <- words }})
		done <- err
	}()
	<-told
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	_, err := broker.Start(t.Context(), broker.Config{Dir: dir})
	require.ErrorAs(t, err, new(*broker.LockedError))
	goOn()
	require.Eventually(t, func() bool {
		b, err := broker.Start(t.Context(), broker.Config{Dir: dir})
		if err == nil {
			err = b.Stop(t.Context())
		}
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
}

// A file that a killed start has left means nothing.
func TestStartingFileOfTheDead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.Nil(t, broker.Starting(dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, broker.StartingFile), []byte(`{"pid":1,"words":"x"}`), 0o600))
	require.Nil(t, broker.Starting(dir))
}
