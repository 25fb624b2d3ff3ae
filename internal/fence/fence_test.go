package fence_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/engine"
	"durablestream/internal/fence"
	"durablestream/internal/wire"
)

// filled makes the directory of a host that has stopped, with five events.
func filled(t *testing.T) (dir string, events []event.Recorded) {
	t.Helper()
	h := brokertest.Start(t)
	brokertest.OnlyOurs(t, "it is about the files of a lone host of ours")
	for i := range 5 {
		r, err := h.Client.Append(t.Context(), event.Event{Type: "test.fence", StreamID: "s", Actor: "a", Payload: json.RawMessage(fmt.Sprint(i))})
		require.NoError(t, err)
		events = append(events, r)
	}
	h.Stop(t)
	return h.Config.Dir, events
}

// paths are those of a store.
type paths struct{ store, engine, data, kept string }

func pathsOf(dir string) paths {
	store := filepath.Join(dir, broker.StoreDir)
	return paths{store, filepath.Join(store, "jetstream", "$G", "streams", wire.LogName), filepath.Join(store, fence.DataDir), filepath.Join(store, fence.KeptFile)}
}

func storeIn(t *testing.T, dir string) fence.Store {
	return fence.Store{Dir: pathsOf(dir).store, Account: "$G", Aside: filepath.Join(dir, broker.DamagedDir), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// unfence makes a store what a program before the fence leaves.
func unfence(t *testing.T, p paths) {
	require.NoError(t, os.Remove(p.engine))
	require.NoError(t, os.Rename(p.data, p.engine))
	require.NoError(t, os.Remove(p.kept))
}

// update writes a setting into the stored configuration, as the engine does.
func update(t *testing.T, dir, setting string, value any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "meta.inf"))
	require.NoError(t, err)
	all := map[string]any{}
	require.NoError(t, json.Unmarshal(raw, &all))
	all[setting] = value
	raw, err = json.Marshal(all)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "meta.inf"), raw, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "meta.sum"), []byte(engine.SumOf(wire.LogName, raw)), 0o600))
}

func setting(t *testing.T, dir, name string) any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "meta.inf"))
	require.NoError(t, err)
	all := map[string]any{}
	require.NoError(t, json.Unmarshal(raw, &all))
	return all[name]
}

// states are what a program, an engine, a person or a crash leaves of a store, each made
// of a fenced one.
var states = map[string]func(t *testing.T, p paths){
	"fenced":           func(*testing.T, paths) {},
	"before the fence": unfence,
	"before the fence, with a limit": func(t *testing.T, p paths) {
		unfence(t, p)
		update(t, p.engine, "max_age", 1)
	},
	"a link that was not exchanged": func(t *testing.T, p paths) {
		unfence(t, p)
		require.NoError(t, os.Symlink("../../../log", p.data))
	},
	"the link has gone": func(t *testing.T, p paths) { require.NoError(t, os.Remove(p.engine)) },
	"the account's directory has gone": func(t *testing.T, p paths) {
		require.NoError(t, os.RemoveAll(filepath.Dir(filepath.Dir(p.engine))))
	},
	"deleted by request": func(t *testing.T, p paths) {
		require.NoError(t, os.Remove(filepath.Join(p.data, "meta.inf")))
		require.NoError(t, os.Remove(p.engine))
	},
	"deleted by request, halfway": func(t *testing.T, p paths) {
		require.NoError(t, os.Remove(filepath.Join(p.data, "meta.inf")))
		require.NoError(t, os.Rename(p.engine, filepath.Join(filepath.Dir(p.engine), ".EVENTS")))
	},
	"no checksum, no copy": func(t *testing.T, p paths) {
		require.NoError(t, os.Remove(filepath.Join(p.data, "meta.sum")))
		require.NoError(t, os.Remove(p.kept))
	},
	"a damaged configuration": func(t *testing.T, p paths) {
		require.NoError(t, os.WriteFile(filepath.Join(p.data, "meta.inf"), []byte(`{"name":"EV`), 0o600))
	},
	"a damaged copy": func(t *testing.T, p paths) {
		require.NoError(t, os.WriteFile(p.kept, []byte("0123456789abcdef\n{}"), 0o600))
	},
	"limits": func(t *testing.T, p paths) {
		for name, value := range map[string]any{"max_age": 1, "max_msgs": 1, "max_bytes": 1, "max_msgs_per_subject": 1, "retention": "interest", "allow_msg_ttl": true} {
			update(t, p.data, name, value)
		}
	},
	"a first sequence behind the last": func(t *testing.T, p paths) { update(t, p.data, "first_seq", 1000) },
	"a first sequence in the middle":   func(t *testing.T, p paths) { update(t, p.data, "first_seq", 3) },
	"another, empty Log before the fence": func(t *testing.T, p paths) {
		require.NoError(t, os.Remove(p.engine))
		require.NoError(t, os.MkdirAll(filepath.Join(p.engine, "msgs"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(p.engine, "meta.inf"), []byte(`{"name":"EVENTS"}`), 0o600))
	},
	"an empty directory behind the fence": func(t *testing.T, p paths) {
		unfence(t, p)
		require.NoError(t, os.MkdirAll(filepath.Join(p.data, "msgs"), 0o700))
	},
	"a copy that followed the link": func(t *testing.T, p paths) {
		copied := p.engine + ".copy"
		require.NoError(t, os.CopyFS(copied, os.DirFS(p.data)))
		require.NoError(t, os.Remove(p.engine))
		require.NoError(t, os.Rename(copied, p.engine))
	},
}

var errCrash = errors.New("a crash")

// A crash at any step leaves a store in which nothing counts as absent, that an older
// program finds its Log in where it did before, and from which Settle goes on; then the
// engine opens it with all events.
func TestSettle(t *testing.T) {
	t.Parallel()
	for name, spoil := range states {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for crash := 0; ; crash++ {
				dir, events := filled(t)
				p := pathsOf(dir)
				spoil(t, p)
				_, err := os.Stat(filepath.Join(p.engine, "meta.inf"))
				found := err == nil // by the engine, before
				s, at := storeIn(t, dir), 0
				require.True(t, s.Holds())
				err = s.AtEachStep(func(step string) error {
					if at++; at == crash {
						t.Log("a crash before", step)
						return errCrash
					}
					return nil
				}).Settle()
				require.True(t, s.Holds())
				if found && name != "another, empty Log before the fence" && runtime.GOOS == "linux" && name != "a copy that followed the link" {
					require.FileExists(t, filepath.Join(p.engine, "meta.inf"))
				}
				if crash > 0 && at >= crash {
					require.ErrorIs(t, err, errCrash)
					require.NoError(t, s.Settle())
				}
				require.NoError(t, err2nil(err))
				whole(t, dir, events)
				if at < crash {
					return
				}
			}
		})
	}
}

func err2nil(err error) error {
	if errors.Is(err, errCrash) {
		return nil
	}
	return err
}

// whole demands that a host finds the events, behind a fence and without limits.
func whole(t *testing.T, dir string, events []event.Recorded) {
	t.Helper()
	p := pathsOf(dir)
	to, err := os.Readlink(p.engine)
	require.NoError(t, err)
	require.Equal(t, filepath.Join("..", "..", "..", fence.DataDir), to)
	for name, value := range map[string]any{"max_age": 0., "max_msgs": -1., "max_bytes": -1., "max_msgs_per_subject": -1., "retention": "limits", "allow_msg_ttl": false} {
		require.Equal(t, value, setting(t, p.engine, name), name)
	}
	h := &brokertest.Host{Config: broker.Config{Dir: dir}}
	h.Boot(t)
	defer h.Stop(t)
	var found []event.Recorded
	for r, err := range h.NewClient(t, client.Config{}).Query(t.Context(), event.Filter{}) {
		require.NoError(t, err)
		found = append(found, r)
	}
	require.Equal(t, events, found)
	require.FileExists(t, p.kept)
}

// What cannot be put back is refused, and nothing is changed.
func TestSettleRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, p paths)
		words string
	}{
		"the data has gone": {func(t *testing.T, p paths) { require.NoError(t, os.RemoveAll(p.data)) }, "has gone"},
		"data and link have gone": {func(t *testing.T, p paths) {
			require.NoError(t, os.RemoveAll(p.data))
			require.NoError(t, os.Remove(p.engine))
		}, "has gone"},
		"the data is a file": {func(t *testing.T, p paths) {
			require.NoError(t, os.RemoveAll(p.data))
			require.NoError(t, os.WriteFile(p.data, nil, 0o600))
		}, "no directory"},
		"half deleted, before the fence": {func(t *testing.T, p paths) {
			unfence(t, p)
			require.NoError(t, os.Rename(p.engine, filepath.Join(filepath.Dir(p.engine), ".EVENTS")))
		}, "was deleting"},
		"no configuration and no copy": {func(t *testing.T, p paths) {
			require.NoError(t, os.Remove(filepath.Join(p.data, "meta.inf")))
			require.NoError(t, os.Remove(p.kept))
		}, "there is no copy"},
		"two Logs": {func(t *testing.T, p paths) {
			other, _ := filled(t)
			require.NoError(t, os.Remove(p.engine))
			require.NoError(t, os.Rename(pathsOf(other).data, p.engine))
		}, "two Logs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := filled(t)
			c.spoil(t, pathsOf(dir))
			before := listing(t, dir)
			require.ErrorContains(t, storeIn(t, dir).Settle(), c.words)
			require.Equal(t, before, listing(t, dir))
			_, err := broker.Start(t.Context(), broker.Config{Dir: dir})
			require.ErrorContains(t, err, c.words)
			require.NotContains(t, err.Error(), "/proc/")
			require.NoFileExists(t, broker.AddressPath(dir))
		})
	}
}

// listing is all below a store, with sizes.
func listing(t *testing.T, dir string) (all []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(pathsOf(dir).store, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		all = append(all, fmt.Sprint(path, " ", info.Mode(), " ", info.Size()))
		return err
	}))
	return all
}

// The engine removes the empty Log of a restore, and a crash at any step brings it back.
func TestRenew(t *testing.T) {
	t.Parallel()
	for crash := 1; ; crash++ {
		h := brokertest.Start(t)
		brokertest.OnlyOurs(t, "it is about the files of a lone host of ours")
		h.Stop(t)
		dir := h.Config.Dir
		p := pathsOf(dir)
		require.NoError(t, os.Remove(filepath.Join(p.data, "meta.inf")))
		require.NoError(t, os.Remove(p.engine))
		s, at := storeIn(t, dir), 0
		err := s.AtEachStep(func(string) error {
			if at++; at == crash {
				return errCrash
			}
			return nil
		}).Renew()
		if at >= crash {
			require.ErrorIs(t, err, errCrash)
		}
		require.True(t, s.Holds(), "its configuration")
		whole(t, dir, settled(t, s))
		if at < crash {
			require.NoError(t, err)
			return
		}
	}
}

func settled(t *testing.T, s fence.Store) []event.Recorded {
	require.NoError(t, s.Settle())
	return nil
}

func TestRenewKeepsMessages(t *testing.T) {
	t.Parallel()
	dir, events := filled(t)
	p := pathsOf(dir)
	require.NoError(t, os.Remove(p.engine))
	s := storeIn(t, dir)
	require.ErrorContains(t, s.Renew(), "5 messages")
	require.NoError(t, s.Settle())
	whole(t, dir, events)
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "host")
	require.NoError(t, os.MkdirAll(pathsOf(dir).store, 0o700))
	s := storeIn(t, dir)
	for _, crash := range []string{"mkdir", "link", ""} {
		require.False(t, s.Holds())
		err := s.AtEachStep(func(step string) error {
			if step == crash {
				return errCrash
			}
			return nil
		}).Prepare()
		if crash != "" {
			require.ErrorIs(t, err, errCrash)
		}
		require.NoError(t, s.Settle())
	}
	whole(t, dir, func() []event.Recorded {
		h := &brokertest.Host{Config: broker.Config{Dir: dir}}
		h.Boot(t)
		h.Stop(t)
		return nil
	}())
}

func TestNoFileIsLeftOver(t *testing.T) {
	t.Parallel()
	dir, _ := filled(t)
	require.NoError(t, storeIn(t, dir).Settle())
	for _, pattern := range []string{"*.tmp", "log/*.tmp"} {
		left, err := filepath.Glob(filepath.Join(dir, broker.StoreDir, pattern))
		require.NoError(t, err)
		require.Empty(t, left)
	}
}
