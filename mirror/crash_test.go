package mirror

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

var errCrash = errors.New("the writer was killed here")

// crashAt stops the writer right before the n-th op, counted from 1.
func crashAt(op string, n int) func(string) error {
	return func(now string) error {
		if now == op || op == "" {
			if n--; n == 0 {
				return permanent{errCrash}
			}
		}
		return nil
	}
}

// tear cuts off the end of the file's last line when crash stops the writer.
func tear(path string, crash func(string) error) func(string) error {
	return func(op string) error {
		err := crash(op)
		if err == nil {
			return nil
		}
		text, readErr := os.ReadFile(path)
		if readErr == nil {
			last := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
			readErr = os.Truncate(path, int64(last+rand.IntN(len(text)-last)))
		}
		return errors.Join(err, readErr)
	}
}

// small is a Log of n events with guards in between, and a mirror of it that
// writes each line as a batch of its own.
func small(t *testing.T, n int, maxBytes int64) (*brokertest.Host, Config) {
	t.Helper()
	h := brokertest.Start(t)
	for i, e := range mixed(n) {
		if i%3 == 0 {
			guard(t, h, wire.GuardSubject(event.GuardUser, "u"))
		}
		appendAll(t, h.Client, e)
	}
	cfg := configOf(t, h)
	cfg.batchBytes, cfg.MaxBytes = 1, maxBytes
	return h, cfg
}

// A writer that is killed before any step of a batch or a rotation leaves files
// from which the next one makes the same as one that was never killed.
func TestCrashAtEachStep(t *testing.T) {
	t.Parallel()
	for name, maxBytes := range map[string]int64{"one file": -1, "a file a line": 1, "some lines a file": 800} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cfg := small(t, longtest.Pick(4, 7), maxBytes)
			catchUp(t, cfg)
			whole := get(t, cfg.Dir)
			for _, op := range []string{"write", "torn", "fsync", "rename", "create", "dirsync"} {
				crashes := 0
				for ; ; crashes++ {
					cfg.Dir = t.TempDir()
					cfg.step = crashAt(op, crashes+1)
					if op == "torn" { // in the middle of the write
						cfg.step = tear(filepath.Join(cfg.Dir, ActiveName), crashAt("fsync", crashes+1))
					}
					r := start(t, cfg)
					finished := !dies(t, r, position(t, cfg.Client))
					if finished {
						require.NoError(t, r.stop(t))
						break
					}
					cfg.step = nil
					require.NoError(t, Check(t.Context(), cfg))
					catchUp(t, cfg)
					requireEqual(t, cfg)
					require.Equal(t, names(whole), names(get(t, cfg.Dir)), "crash %d at %s", crashes, op)
				}
				if maxBytes > 0 || op == "write" || op == "torn" || op == "fsync" {
					require.Positive(t, crashes, op)
				}
				t.Logf("%s: %d crash points", op, crashes)
			}
		})
	}
}

// The order of the steps is what the argument in writer.go stands on.
func TestStepsOfABatch(t *testing.T) {
	t.Parallel()
	h, cfg := small(t, 2, 1)
	var steps []string
	cfg.step = func(op string) error { steps = append(steps, op); return nil }
	catchUp(t, cfg)
	first := []string{"dirsync", "create", "dirsync", "write", "fsync"}
	require.Equal(t, append(first, "fsync", "rename", "dirsync", "create", "dirsync", "write", "fsync"), steps)
	steps, cfg.MaxBytes = nil, -1
	appendAll(t, h.Client, mixed(1)...)
	catchUp(t, cfg)
	require.Equal(t, []string{"dirsync", "write", "fsync"}, steps, "a resume trusts no name that it has not synced")
}

// Damage before the last line is no crash's, and stops the mirror: as far back as
// a crash could reach, resume looks for it.
func TestResumeSeesDamageNearTheEnd(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 6, -1)
	catchUp(t, cfg)
	at, line := places(t, cfg.Dir)
	for i := 1; i < len(line); i++ {
		changed := append([]string{}, line...)
		changed[i] = strings.Replace(line[i], "agent", "agemt", 1)
		put(t, cfg.Dir, join(at, changed))
		var damage *DamageError
		refused(t, cfg, &damage)
		require.Equal(t, i+1, damage.Line)
	}
}

// dies waits until r has reached seq (false) or was stopped by its hook (true).
func dies(t *testing.T, r *running, seq event.Sequence) (died bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		select {
		case err := <-r.done:
			require.ErrorIs(t, err, errCrash)
			died = true
			return true
		default:
			p := r.last.Load()
			return p != nil && p.Seq >= seq
		}
	}, 20*time.Second, 100*time.Microsecond)
	return died
}

// Crash upon crash, at random steps, also during the resume from a crash.
func TestCrashesAtRandom(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 12, 700)
	for range longtest.Pick(8, 30) {
		cfg.Dir = t.TempDir()
		for n := 0; ; n++ {
			cfg.step = crashAt("", 1+rand.IntN(12+n)) // further each time, so that it ends
			r := start(t, cfg)
			if !dies(t, r, position(t, cfg.Client)) {
				require.NoError(t, r.stop(t))
				break
			}
		}
		requireEqual(t, cfg)
	}
}

// A power cut may keep any part of the last batch, since it was not synced yet:
// cut off anywhere, or with pages of zeros.
func TestCrashLosesUnsyncedBytes(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 9, -1)
	cfg.batchBytes = 1 << 20
	synced := Config{Client: cfg.Client, Dir: t.TempDir(), NoDaily: true, batchBytes: 1}
	synced.step = crashAt("fsync", 4) // three lines are synced
	require.ErrorIs(t, Run(t.Context(), synced), errCrash)
	path := filepath.Join(synced.Dir, ActiveName)
	old := content(t, synced.Dir)
	require.Equal(t, 4, strings.Count(old, "\n"), "the fourth is written, and not synced")
	old = old[:strings.LastIndex(old[:len(old)-1], "\n")+1]
	catchUp(t, cfg)
	whole := content(t, cfg.Dir)
	rest := len(whole) - len(old)
	for i := range longtest.Pick(20, 60) {
		text := []byte(whole[:len(old)+rand.IntN(rest+1)])
		if i%3 > 0 && len(text) > len(old) { // a page that was not written
			from := len(old) + rand.IntN(len(text)-len(old))
			to := from + rand.IntN(len(text)-from+1)
			clear(text[from:to])
		}
		require.NoError(t, os.WriteFile(path, text, 0o600))
		cfg.Dir = synced.Dir
		e, err := findEnds(cfg.Dir)
		require.NoError(t, err)
		whole := 0 // a reader accepts what resume keeps, and calls the rest torn
		for _, err := range Lines(cfg.Dir) {
			if err != nil {
				require.ErrorAs(t, err, new(*TornError))
				require.Less(t, e.keep, e.size)
				continue
			}
			whole++
		}
		require.Equal(t, bytes.Count(text[:e.keep], []byte("\n")), whole)
		catchUp(t, cfg)
		requireEqual(t, cfg)
	}
}

// The tail may be torn at any byte of the last line, and of the only line.
func TestTornTailAtEveryByte(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 3, -1)
	catchUp(t, cfg)
	whole := content(t, cfg.Dir)
	lines := strings.SplitAfter(whole, "\n")
	path := filepath.Join(cfg.Dir, ActiveName)
	first := len(lines[0])
	last := len(lines[0]) + len(lines[1])
	var cuts []int
	each := longtest.Pick(23, 1) // with the seventh ones, which are taken the rest of the way
	for n := 0; n < first; n += each {
		cuts = append(cuts, n)
	}
	for n := last; n < len(whole); n += each {
		cuts = append(cuts, n)
	}
	for _, n := range cuts {
		require.NoError(t, os.WriteFile(path, []byte(whole[:n]), 0o600))
		if n > 0 && whole[n-1] != '\n' {
			var torn *TornError
			report, err := Verify(t.Context(), cfg)
			require.NoError(t, err)
			require.ErrorAs(t, report.Problem, &torn)
			require.Equal(t, strings.Count(whole[:n], "\n")+1, torn.Line)
		}
		e, err := findEnds(cfg.Dir)
		require.NoError(t, err)
		require.EqualValues(t, strings.LastIndex(whole[:n], "\n")+1, e.keep)
		if n%7 == 0 { // the rest of the way, not for each
			catchUp(t, cfg)
			require.Equal(t, whole, content(t, cfg.Dir))
		}
	}
}

// Lines far larger than what is read at once, whole and torn.
func TestTornTailOfLargeLines(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	size := longtest.Pick(1<<20, int(h.Conn.MaxPayload())*94/100)
	big := []byte(`"` + strings.Repeat("x", size) + `"`)
	appendAll(t, h.Client, mixed(2)...)
	appendAll(t, h.Client, event.Event{Type: "a.b", StreamID: "s", Actor: "a", Payload: big})
	appendAll(t, h.Client, event.Event{Type: "a.b", StreamID: "s", Actor: "a", Payload: []byte("1")})
	appendAll(t, h.Client, event.Event{Type: "a.b", StreamID: "s", Actor: "a", Payload: big})
	catchUp(t, cfg)
	requireEqual(t, cfg)
	whole := content(t, cfg.Dir)
	path := filepath.Join(cfg.Dir, ActiveName)
	for _, n := range []int{len(whole) - 1, len(whole) - size - 100, 100} {
		require.NoError(t, os.Truncate(path, int64(n)))
		catchUp(t, cfg)
		require.True(t, whole == content(t, cfg.Dir), n)
	}
}

func TestRotationByDay(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	cfg.NoDaily = false
	now := time.Now()
	cfg.now = func() time.Time { return now }
	appendAll(t, h.Client, mixed(2)...)
	catchUp(t, cfg)
	appendAll(t, h.Client, mixed(2)...)
	catchUp(t, cfg)
	require.Equal(t, []string{ActiveName}, names(get(t, cfg.Dir)), "the same day")
	now = now.Add(24 * time.Hour) // as seen from the file's time of modification
	catchUp(t, cfg)
	require.Equal(t, []string{ActiveName}, names(get(t, cfg.Dir)), "nothing to write")
	appendAll(t, h.Client, mixed(2)...)
	catchUp(t, cfg)
	require.Equal(t, []string{ActiveName, rotatedName(1)}, names(get(t, cfg.Dir)))
	requireEqual(t, cfg)

	// And while it runs.
	require.NoError(t, os.Chtimes(filepath.Join(cfg.Dir, ActiveName), now, now))
	r := start(t, cfg)
	r.reach(t, 6)
	appendAll(t, h.Client, mixed(1)...)
	r.reach(t, 7)
	require.NoError(t, r.stop(t))
	require.Len(t, get(t, cfg.Dir), 2)
	cfg.NoDaily = true
	now = now.Add(24 * time.Hour)
	appendAll(t, h.Client, mixed(1)...)
	catchUp(t, cfg)
	require.Len(t, get(t, cfg.Dir), 2, "turned off")
	requireEqual(t, cfg)
}

func TestRotationBySizeKeepsTheBound(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 40, 2000)
	catchUp(t, cfg)
	requireEqual(t, cfg)
	files := get(t, cfg.Dir)
	require.Greater(t, len(files), 4)
	for name, text := range files {
		require.Less(t, len(text), 2000+1000, name) // one line a batch here
		if name != ActiveName {
			require.GreaterOrEqual(t, len(text), 2000, name)
		}
	}
}

// A file that has the older name already is never replaced.
func TestRotationDoesNotReplace(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	cfg.MaxBytes = 1
	appendAll(t, h.Client, mixed(1)...)
	r := start(t, cfg)
	r.reach(t, 1)
	other := filepath.Join(cfg.Dir, rotatedName(1))
	require.NoError(t, os.WriteFile(other, []byte("mine"), 0o600))
	appendAll(t, h.Client, mixed(1)...)
	require.ErrorContains(t, r.wait(t), other)
	b, err := os.ReadFile(other)
	require.NoError(t, err)
	require.Equal(t, "mine", string(b))
}
