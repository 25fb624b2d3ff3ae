package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

func TestMirrorEqualsLog(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	r := start(t, cfg)

	guard(t, h, wire.GuardSubject(event.GuardImport, "x")) // the first line's seq is not 1
	appendAll(t, h.Client, mixed(20)...)
	guard(t, h, wire.GuardSubject(event.GuardUser, "u"))
	big, err := json.Marshal(strings.Repeat("<ü>", longtest.Pick(1<<20, int(h.Conn.MaxPayload()))/16))
	require.NoError(t, err)
	appendAll(t, h.Client, event.Event{Type: "test.big", StreamID: "s", Actor: "a", Payload: big})
	_, err = h.Client.AppendBatch(t.Context(), mixed(300))
	require.NoError(t, err)
	guard(t, h, wire.GuardSubject(event.GuardUser, "u"))

	r.reach(t, position(t, h.Client))
	requireEqual(t, cfg)
	require.NoError(t, r.stop(t))
	require.EqualValues(t, 321, r.last.Load().Lines)
	info, err := os.Stat(filepath.Join(cfg.Dir, ActiveName))
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())

	n := 0
	for l, err := range Lines(cfg.Dir) {
		require.NoError(t, err)
		n++
		require.Equal(t, n, l.Number)
		again := l.Recorded.AppendBody(nil)
		require.Equal(t, string(again), string(l.Body))
	}
	require.Equal(t, 321, n)
}

func TestEmptyLog(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	require.NoError(t, Check(t.Context(), cfg))
	require.NoFileExists(t, filepath.Join(cfg.Dir, hostDir), "Check changes nothing")
	r := start(t, cfg)
	require.Eventually(t, func() bool { return r.last.Load() != nil }, 10*time.Second, time.Millisecond)
	require.NoError(t, r.stop(t))
	requireEqual(t, cfg)
	require.FileExists(t, filepath.Join(cfg.Dir, ActiveName))
	require.NoError(t, Check(t.Context(), cfg))
}

func TestRunDrains(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	_, err := h.Client.AppendBatch(t.Context(), mixed(999))
	require.NoError(t, err)
	r := start(t, cfg)
	require.Eventually(t, func() bool { return r.last.Load() != nil }, 10*time.Second, 10*time.Microsecond)
	require.NoError(t, r.stop(t)) // at once: what the Log held is written all the same
	requireEqual(t, cfg)
}

func TestRestartsInTheMiddle(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	cfg.MaxBytes = 20_000
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i := range 3 {
		c := h.NewClient(t, client.Config{})
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				e := mixed(n%8 + 1)[n%8]
				e.StreamID = fmt.Sprint(i)
				// To its end, also when the writers are to stop: one that was given up
				// may be stored later, behind what the mirror then catches up with.
				if _, err := c.Append(t.Context(), e); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for round := range 6 {
		r := start(t, cfg)
		r.reach(t, position(t, h.Client))
		if round%2 == 0 {
			h.Restart(t)
			r.reach(t, position(t, h.Client))
		}
		require.NoError(t, r.stop(t))
	}
	cancel()
	writers.Wait()
	catchUp(t, cfg)
	requireEqual(t, cfg)
}

func TestSetsAsideWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	appendAll(t, h.Client, mixed(1)...)
	raw(t, h, "events.a.b.junk", []byte("not JSON"))
	raw(t, h, "events.a.b.junk", []byte(`{"id":"i","type":"c.d","stream_id":"elsewhere","correlation_id":"c","actor":"a","timestamp":1,"payload":1}`))
	// Space around the object is junk too; space inside is the writer's.
	raw(t, h, "events.a.b.s", []byte(" {\"id\":\"k\",\"type\":\"a.b\",\"stream_id\":\"s\",\"correlation_id\":\"c\",\"actor\":\"a\",\"timestamp\":1,\"payload\":1} "))
	raw(t, h, "events.a.b.s", []byte("{ \"id\":\"j\",\"type\":\"a.b\",\"stream_id\":\"s\",\"correlation_id\":\"c\",\"actor\":\"a\",\"timestamp\":1,\"payload\":1 }"))
	appendAll(t, h.Client, mixed(1)...)
	r := start(t, cfg)
	r.reach(t, position(t, h.Client))
	require.NoError(t, r.stop(t))
	require.EqualValues(t, 3, r.last.Load().SetAside)
	require.EqualValues(t, 3, r.last.Load().Lines)
	requireEqual(t, cfg)
	report, err := Verify(t.Context(), cfg)
	require.NoError(t, err)
	require.EqualValues(t, 3, report.SetAside)
}

func TestBusy(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	r := start(t, cfg)
	require.Eventually(t, func() bool { return r.last.Load() != nil }, 10*time.Second, time.Millisecond)
	var busy *BusyError
	require.ErrorAs(t, Run(t.Context(), cfg), &busy)
	require.ErrorAs(t, Check(t.Context(), cfg), &busy)
	require.Equal(t, lockPath(cfg.Dir), busy.Path)
	require.NoError(t, r.stop(t))
	require.NoError(t, Check(t.Context(), cfg))
	catchUp(t, cfg)
}

// refused runs the mirror on files that it must not touch.
func refused(t *testing.T, cfg Config, as any) {
	t.Helper()
	before := get(t, cfg.Dir)
	require.ErrorAs(t, Check(t.Context(), cfg), as)
	require.ErrorAs(t, Run(t.Context(), cfg), as)
	require.Equal(t, before, get(t, cfg.Dir))
}

func TestOriginalIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for _, text := range []string{
		`{"type":"lifecycle.session.created","stream_id":"s","correlation_id":"c","actor":"system","payload":{"chain":"x","seq":1},"id":"0mw","timestamp":1}` + "\n",
		`{"id":"0mw","type":"a.b"}` + "\n" + `{"torn`,
		`{"id":"0mw","type":"a.b"}`, // no line end
		`{"id":"0mw","ty`,
		`{"id":"damaged` + "\n",
	} {
		cfg := configOf(t, h)
		put(t, cfg.Dir, map[string]string{ActiveName: text})
		var original *OriginalError
		refused(t, cfg, &original)
		require.Contains(t, original.Error(), "dstream import --adopt "+filepath.Join(cfg.Dir, ActiveName))
		report, err := Verify(t.Context(), cfg)
		require.NoError(t, err)
		require.ErrorAs(t, report.Problem, &original)
	}
	for _, text := range []string{"hello", "hello\n", "[1]\n", `{"seq":1,"id":"i"}` + "\n", "\n", "{\"seq\":0,\n"} {
		cfg := configOf(t, h)
		put(t, cfg.Dir, map[string]string{ActiveName: text})
		var damage *DamageError
		refused(t, cfg, &damage)
		require.Equal(t, 1, damage.Line, "%q", text)
	}
}

func TestAheadAndForeign(t *testing.T) {
	t.Parallel()
	one, two, none := brokertest.Start(t), brokertest.Start(t), brokertest.Start(t)
	cfg := configOf(t, one)
	appendAll(t, one.Client, mixed(3)...)
	catchUp(t, cfg)

	cfg.Client = none.Client
	var ahead *AheadError
	refused(t, cfg, &ahead)
	require.Equal(t, AheadError{filepath.Join(cfg.Dir, ActiveName), 3, 0}, *ahead)
	report, err := Verify(t.Context(), cfg)
	require.NoError(t, err)
	ahead = nil
	require.ErrorAs(t, report.Problem, &ahead)
	require.Equal(t, AheadError{filepath.Join(cfg.Dir, ActiveName), 3, 0}, *ahead, "the files' end, not the first line")

	cfg.Client = two.Client
	appendAll(t, two.Client, mixed(2)...)
	refused(t, cfg, &ahead)
	require.Equal(t, AheadError{filepath.Join(cfg.Dir, ActiveName), 3, 2}, *ahead)
	appendAll(t, two.Client, mixed(2)...)
	var foreign *ForeignError
	refused(t, cfg, &foreign)
	require.EqualValues(t, 3, foreign.Seq)

	// The last line is equal and the first is not: half of another Log's file.
	line := strings.SplitAfter(content(t, cfg.Dir), "\n")
	for m, err := range two.Client.Feed(t.Context(), client.FeedConfig{After: 3, Until: 4}) {
		require.NoError(t, err)
		b, _ := newChainer().appendLine(nil, 4, m.Data, chain([]byte(line[2][len(line[2])-67:len(line[2])-3])))
		put(t, cfg.Dir, map[string]string{ActiveName: strings.Join(line[:3], "") + string(b)})
	}
	refused(t, cfg, &foreign)
	require.EqualValues(t, 1, foreign.Seq)
}

func TestFileTouchedByOthersWhileRunning(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for name, touch := range map[string]func(path string) error{
		"moved":     func(p string) error { return os.Rename(p, p+".bak") },
		"replaced":  func(p string) error { return os.WriteFile(p+"~", nil, 0o600) },
		"appended":  func(p string) error { return appendTo(p, "x\n") },
		"truncated": func(p string) error { return os.Truncate(p, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configOf(t, h)
			appendAll(t, h.Client, mixed(1)...)
			r := start(t, cfg)
			r.reach(t, position(t, h.Client))
			path := filepath.Join(cfg.Dir, ActiveName)
			require.NoError(t, touch(path))
			if name == "replaced" {
				require.NoError(t, os.Rename(path+"~", path))
			}
			appendAll(t, h.Client, mixed(1)...)
			var damage *DamageError
			require.ErrorAs(t, r.wait(t), &damage)
			require.Equal(t, path, damage.File)
		})
	}
}

// Where the whole directory has gone, no file is damaged, and none is to be put back.
func TestDirectoryMovedWhileRunning(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	cfg.Dir = filepath.Join(cfg.Dir, "log")
	require.NoError(t, os.Mkdir(cfg.Dir, 0o700))
	appendAll(t, h.Client, mixed(1)...)
	r := start(t, cfg)
	r.reach(t, position(t, h.Client))
	require.NoError(t, os.Rename(cfg.Dir, cfg.Dir+"-moved"))
	appendAll(t, h.Client, mixed(1)...)
	err := r.wait(t)
	require.ErrorContains(t, err, "its directory was removed or moved away")
	require.NotContains(t, err.Error(), "damaged")
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// A file's first line that was changed is damage, and not another Log's file.
func TestChangedFirstLineIsDamage(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	active := filepath.Join(cfg.Dir, ActiveName)
	appendAll(t, h.Client, mixed(1)...)
	check := func(text, what string) {
		t.Helper()
		put(t, cfg.Dir, map[string]string{ActiveName: text})
		var damage *DamageError
		refused(t, cfg, &damage)
		require.Equal(t, active, damage.File, what)
		require.Equal(t, 1, damage.Line, what)
	}
	catchUp(t, cfg)
	one := content(t, cfg.Dir)
	check(strings.Replace(one, "agent", "agemt", 1), "the only line")
	check(one[:len(one)-67]+strings.Repeat("0", 64)+one[len(one)-3:], "its chain")
	put(t, cfg.Dir, map[string]string{ActiveName: one})

	appendAll(t, h.Client, mixed(2)...)
	catchUp(t, cfg)
	all := content(t, cfg.Dir)
	check(strings.Replace(all, "agent", "agemt", 1), "the actor")
	at := strings.Index(all, `"id":"`) + len(`"id":"`)
	check(all[:at]+"zz"+all[at+2:], "the id")

	// Where the first event is not at 1 the Log alone knows.
	_, cfg = small(t, 3, -1)
	catchUp(t, cfg)
	active, all = filepath.Join(cfg.Dir, ActiveName), content(t, cfg.Dir)
	require.True(t, strings.HasPrefix(all, `{"seq":2,`))
	check(strings.Replace(all, "agent", "agemt", 1), "the actor at seq 2")
	at = strings.Index(all, `"id":"`) + len(`"id":"`)
	check(all[:at]+"zz"+all[at+2:], "the id at seq 2")
	check(strings.Replace(all, `"seq":2,`, `"seq":1,`, 1), "the seq")
}

// Lines that were removed in front are missed, unless the name of an older file
// says that it was put away.
func TestCheckSeesLinesMissingInFront(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 9, -1)
	catchUp(t, cfg)
	require.NoError(t, Check(t.Context(), cfg))
	_, line := places(t, cfg.Dir)
	for i := 1; i < len(line); i++ {
		put(t, cfg.Dir, map[string]string{ActiveName: strings.Join(line[i:], "")})
		var damage *DamageError
		refused(t, cfg, &damage)
		require.Equal(t, filepath.Join(cfg.Dir, ActiveName), damage.File)
		require.Equal(t, 1, damage.Line)
		require.EqualValues(t, 2, damage.Expected)
	}
	_, cfg = small(t, 9, 700)
	catchUp(t, cfg)
	files, err := list(cfg.Dir)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 3)
	require.NoError(t, os.Remove(files[0].path))
	require.NoError(t, Check(t.Context(), cfg))
}

// The advice names what there is.
func TestErrorsNameCommandsThatExist(t *testing.T) {
	t.Parallel()
	behind := (&BehindError{File: "f", After: 3, LogSeq: 5, Events: 2}).Error()
	require.Contains(t, behind, "the next host ('dstream serve') writes the missing lines when they are only at the end")
	gap := (&GapError{3, 5}).Error()
	require.Contains(t, gap, "'dstream doctor' says what is wrong with the store, and repairs it from this mirror")
	all := strings.Join([]string{
		behind, gap, (&GapError{After: 3}).Error(), ErrIncomplete.Error(), ErrNotEmpty.Error(), ErrNoLines.Error(),
		(&DamageError{}).Error(), (&TornError{}).Error(), (&AheadError{}).Error(), (&ForeignError{}).Error(),
		(&OriginalError{}).Error(), (&BusyError{}).Error(),
	}, "\n")
	for _, m := range regexp.MustCompile(`dstream (\w+( verify| --adopt)?)`).FindAllStringSubmatch(all, -1) {
		require.Contains(t, []string{"serve", "append", "query", "mirror verify", "restore", "import --adopt", "status", "doctor"}, m[1])
	}
	require.NotContains(t, all, "partial restore")
}

func TestReportsAsJSON(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(Report{1, 2, 3, 4, 5, true, 6, 7, 8, ErrNoLines})
	require.NoError(t, err)
	require.JSONEq(t, `{"files":1,"lines":2,"first":3,"last":4,"log_last":5,"anchored":true,"before":6,"behind":7,"set_aside":8}`, string(got))
	got, err = json.Marshal(RestoreReport{1, 2, 3, 4, 5, 6, true, true, true, true})
	require.NoError(t, err)
	require.JSONEq(t, `{"files":1,"lines":2,"first":3,"last":4,"guards":5,"voids":6,"resumed":true,"recreated":true,"anchored":true,"torn":true}`, string(got))
}
