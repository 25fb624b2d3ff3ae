package hosting_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/internal/brokertest"
	"durablestream/mirror"
)

func add(t *testing.T, d *durablestream.DurableStream, what string) (event.Recorded, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return d.Append(ctx, event.Event{Type: "a.b", StreamID: "s", Actor: "a", Payload: fmt.Appendf(nil, "%q", what)})
}

// added appends, and demands that it works.
func added(t *testing.T, d *durablestream.DurableStream, what string) event.Recorded {
	t.Helper()
	r, err := add(t, d, what)
	require.NoError(t, err)
	return r
}

// findsOther appends until the error says that another log is in the place of its own,
// and requires that no append succeeds.
func findsOther(t *testing.T, d *durablestream.DurableStream) (err error) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err = add(t, d, "nowhere")
		return err == nil || errors.Is(err, client.ErrOtherLog)
	}, 20*time.Second, time.Millisecond)
	require.Error(t, err)
	return err
}

func joinOnly(c *durablestream.Config) { c.JoinOnly = true }

func copyTree(t *testing.T, to, from string) {
	t.Helper()
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	require.NoError(t, filepath.WalkDir(to, func(path string, e os.DirEntry, err error) error { // as cp -a leaves them
		if err == nil && !e.IsDir() {
			err = os.Chmod(path, 0o600)
		} else if err == nil {
			err = os.Chmod(path, 0o700)
		}
		return err
	}))
}

// The directory of a log that others have joined is moved away while its host runs. No
// process creates another log in its place, all get an error with the new place, and the
// processes that may continue do so when the directory is back.
func TestMovedWhileJoined(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir, away := filepath.Join(top, "p", ".opencode"), filepath.Join(top, "renamed", ".opencode")
	require.NoError(t, os.Mkdir(filepath.Dir(dir), 0o700))
	kill := start(t, dir)
	d := openIn(t, dir)              // which may take over
	only := openIn(t, dir, joinOnly) // which may not
	ended := make(chan error, 1)
	cp := brokertest.Ask(t, d.Client())
	go func() {
		_, err := only.Checkpoints().Wait(t.Context(), cp.ID)
		ended <- err
	}()
	last := added(t, d, "one")
	require.NoError(t, os.Rename(filepath.Dir(dir), filepath.Dir(away)))
	<-d.Evicted()
	<-only.Evicted()
	for _, joined := range []*durablestream.DurableStream{d, only} {
		_, err := add(t, joined, "nowhere")
		var gone *durablestream.GoneError
		require.ErrorAs(t, err, &gone)
		require.ErrorIs(t, err, client.ErrGone)
		require.Equal(t, dir, gone.Dir)
		require.Equal(t, away, gone.Now)
		_, err = joined.Position(t.Context())
		require.ErrorIs(t, err, client.ErrGone)
	}
	require.ErrorIs(t, <-ended, client.ErrGone, "one that waits for an answer is told")
	require.NoFileExists(t, dir)

	require.NoError(t, os.Rename(filepath.Dir(away), filepath.Dir(dir)))
	require.Eventually(t, func() bool { _, err := add(t, d, "two"); return err == nil }, 20*time.Second, 10*time.Millisecond)
	require.True(t, d.Hosting(), "it took over what it had joined")
	require.NoError(t, d.Admin().WhyEvicted())
	require.Eventually(t, func() bool { _, err := only.Position(t.Context()); return err == nil }, 20*time.Second, 10*time.Millisecond)
	events := collect(t, only, event.Filter{Types: []string{"a.b"}})
	require.JSONEq(t, `"one"`, string(events[0].Payload))
	require.JSONEq(t, `"two"`, string(events[len(events)-1].Payload))
	require.Greater(t, events[len(events)-1].Seq, last.Seq)
	kill()
}

// The directory is removed, and another process begins a log there: a process that had
// joined the old one neither creates a log nor writes into the new one.
func TestReplacedWhileJoined(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	start(t, dir)
	d := openIn(t, dir)
	added(t, d, "one")
	brokertest.RemoveAll(t, dir)
	<-d.Evicted()
	_, err := add(t, d, "nowhere")
	require.ErrorIs(t, err, client.ErrGone)
	require.NotErrorIs(t, err, client.ErrUnknownOutcome)
	require.NoDirExists(t, dir)

	other := openIn(t, dir)
	added(t, other, "other")
	findsOther(t, d)
	require.Len(t, collect(t, other, event.Filter{}), 1)
	require.NoError(t, other.Close())
	_, err = add(t, d, "nowhere")
	require.ErrorIs(t, err, client.ErrOtherLog, "nor does it host the other one")
	require.False(t, d.Hosting())

	again := openIn(t, dir) // the control: a process that opens it now joins it
	added(t, again, "more")
	require.Len(t, collect(t, again, event.Filter{}), 2)
}

// A repository or an archive contains an address whose host runs: no process holds the
// lock of this directory, so that host is not this directory's, whatever the file's mode
// is.
func TestAddressFromElsewhere(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o600, 0o644} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			theirs := openIn(t, t.TempDir())
			dir := t.TempDir()
			host := filepath.Join(dir, durablestream.HostDir)
			require.NoError(t, os.Mkdir(host, 0o755))
			b, err := os.ReadFile(filepath.Join(theirs.Dir(), durablestream.HostDir, broker.AddressFile))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(host, broker.AddressFile), b, mode))
			ours := openIn(t, dir)
			require.True(t, ours.Hosting())
			added(t, ours, "secret")
			require.Empty(t, collect(t, theirs, event.Filter{}))
			info, err := os.Stat(host)
			require.NoError(t, err)
			require.EqualValues(t, 0o700, info.Mode().Perm())
		})
	}
}

// A copy of a directory whose host runs begins with the copied log, reports that, and is
// a log of its own from then on, also for processes that had joined the original's host.
func TestCopyIsALogOfItsOwn(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir, other := filepath.Join(top, "p"), filepath.Join(top, "copy")
	kill := start(t, dir)
	d := openIn(t, dir, joinOnly)
	added(t, d, "one")
	copyTree(t, other, dir)
	require.FileExists(t, filepath.Join(other, durablestream.HostDir, "address"))

	said := &brokertest.Words{}
	c := openIn(t, other, func(c *durablestream.Config) { c.Logger = slog.New(slog.NewTextHandler(said, nil)) })
	require.True(t, c.Hosting())
	require.Contains(t, said.String(), "is a copy of "+filepath.Join(dir, durablestream.HostDir))
	require.NotEqual(t, d.Client().Identity(), c.Client().Identity())
	added(t, c, "in the copy")
	added(t, d, "in the original")
	require.Len(t, collect(t, c, event.Filter{}), 2)
	require.Len(t, collect(t, d, event.Filter{}), 2)
	identity := c.Client().Identity()
	require.NoError(t, c.Close())

	c = openIn(t, other, func(c *durablestream.Config) { c.Logger = slog.New(slog.NewTextHandler(said, nil)) })
	require.Equal(t, identity, c.Client().Identity(), "it keeps it")
	require.NoError(t, c.Close())
	moved := filepath.Join(top, "moved")
	require.NoError(t, os.Rename(other, moved))
	c = openIn(t, moved)
	require.Equal(t, identity, c.Client().Identity(), "also where it is moved")
	require.NoError(t, c.Close())

	// The copy takes the original's place: a process that had joined the original does
	// not mistake the copy for it.
	kill()
	require.NoError(t, os.Rename(dir, filepath.Join(top, "away")))
	require.NoError(t, os.Rename(moved, dir))
	c = openIn(t, dir)
	require.Equal(t, identity, c.Client().Identity())
	require.ErrorContains(t, findsOther(t, d), filepath.Join(top, "away"))
}

// A copy of hard links (cp -al) shares files with the original, and so would their engines:
// each has files of its own once it is hosted, whichever comes first.
func TestHardLinkedCopy(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir, linked := filepath.Join(top, "p"), filepath.Join(top, "linked")
	d := openIn(t, dir)
	added(t, d, "one")
	require.NoError(t, d.Close())
	require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		to := filepath.Join(linked, strings.TrimPrefix(path, dir))
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.Mkdir(to, 0o700)
		case e.Type() == os.ModeSymlink:
			where, err := os.Readlink(path)
			require.NoError(t, err)
			return os.Symlink(where, to)
		}
		return os.Link(path, to)
	}))
	c := openIn(t, linked)
	require.True(t, c.Hosting())
	require.NotEqual(t, d.Client().Identity(), c.Client().Identity())
	added(t, c, "in the copy")
	d = openIn(t, dir)
	require.True(t, d.Hosting(), "they have locks of their own")
	added(t, d, "in the original")
	for _, log := range []*durablestream.DurableStream{c, d} {
		require.Len(t, collect(t, log, event.Filter{}), 2)
		require.NoError(t, log.Close())
		again := openIn(t, log.Dir())
		require.Len(t, collect(t, again, event.Filter{}), 2)
		require.Eventually(t, func() bool { s, err := again.Admin().HostStatus(t.Context()); return err == nil && s.MirrorSeq == 2 }, 20*time.Second, time.Millisecond)
		report, err := mirror.Verify(t.Context(), mirror.Config{Client: again.Client(), Dir: again.Dir()})
		require.NoError(t, err)
		require.NoError(t, report.Problem)
	}
	lines, err := os.ReadFile(durablestream.MirrorPath(dir))
	require.NoError(t, err)
	require.NotContains(t, string(lines), "in the copy")
}

// A host of the copy that is just starting has the copy's lock, and the address beside it
// is still the original's: no process connects to the original by it.
func TestCopiedAddressUnderALock(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir, other := filepath.Join(top, "p"), filepath.Join(top, "copy")
	d := openIn(t, dir)
	added(t, d, "one")
	copyTree(t, other, dir)
	release, err := broker.Hold(filepath.Join(other, durablestream.HostDir))
	require.NoError(t, err)
	defer func() { require.NoError(t, release()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = durablestream.Open(ctx, durablestream.Config{Dir: other})
	require.ErrorIs(t, err, address.ErrUnproven)
	left, err := filepath.Glob(filepath.Join(other, durablestream.HostDir, "join.*"))
	require.NoError(t, err)
	require.Empty(t, left, "what it was asked by is taken away")
}

// A host of the version before proves nothing. It is joined, since its lock and its owner
// are right, which is said once; and it, too, is not followed into another log.
func TestHostOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	host := filepath.Join(dir, durablestream.HostDir)
	before := func() *broker.Broker { // which leaves an address, and keeps none
		b, err := broker.Start(t.Context(), broker.Config{Dir: host})
		require.NoError(t, err)
		var a address.Address
		file, err := b.AddressFile()
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(file, &a))
		a.Prove = ""
		require.NoError(t, address.Write(broker.AddressPath(host), a))
		return b
	}
	b := before()
	said := &brokertest.Words{}
	d := openIn(t, dir, joinOnly, func(c *durablestream.Config) { c.Logger = slog.New(slog.NewTextHandler(said, nil)) })
	added(t, d, "one")
	require.NoError(t, b.Stop(t.Context()))
	b = before()
	added(t, d, "two")
	require.Equal(t, 1, strings.Count(said.String(), "is of an earlier version"), "%s", said)
	require.NoError(t, b.Stop(t.Context()))

	require.NoError(t, os.RemoveAll(host))
	b = before()
	defer func() { require.NoError(t, b.Stop(context.Background())) }()
	findsOther(t, d)
	require.Empty(t, collect(t, openIn(t, dir, joinOnly), event.Filter{}))
}
