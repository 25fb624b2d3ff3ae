package durablestream_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/mirror"
	"durablestream/projection"
)

// TestMain makes this test binary stand in for the processes that these tests kill:
// a host, and one that waits for the answer to a question.
func TestMain(m *testing.M) {
	dir, id := os.Getenv("SURVIVE_TEST_DIR"), os.Getenv("SURVIVE_TEST_WAIT")
	switch {
	case dir == "":
		code := m.Run()
		_ = os.RemoveAll(programDir)
		os.Exit(code)
	case id == "":
		standIn(hostUntilStdinEnds(dir))
	default:
		standIn(waitAndPrint(dir, id))
	}
}

func standIn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func hostUntilStdinEnds(dir string) error {
	d, err := durablestream.Open(context.Background(), durablestream.Config{Dir: dir})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return d.Close()
}

func waitAndPrint(dir, id string) error {
	d, err := durablestream.Open(context.Background(), durablestream.Config{Dir: dir, JoinOnly: true})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	cp, err := d.Checkpoints().Wait(context.Background(), id)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(cp.Decision)
}

// process is another process of this binary.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

// start starts a host of dir, or with an id one that waits for that checkpoint, and
// returns when it is ready.
func start(t *testing.T, dir, waitFor string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), "SURVIVE_TEST_DIR="+dir, "SURVIVE_TEST_WAIT="+waitFor)
	p.cmd.Stderr = os.Stderr
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.out = bufio.NewReader(out)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	require.Equal(t, "ready", p.line(t))
	return p
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	s, err := p.out.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(s)
}

// kill is SIGKILL.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // killed
	}
}

var yes = client.Approval{By: "ann", Option: "yes"}

func TestAnswerSurvivesEverything(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		before bool // the answer comes while no process waits, and before the host is killed
	}{{"it comes to who waits", false}, {"it came while nobody waited", true}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			host := start(t, dir, "")
			d := openIn(t, dir, func(c *durablestream.Config) { c.JoinOnly = true })
			cp := brokertest.Ask(t, d.Client())
			waiter := start(t, dir, cp.ID)
			waiter.kill()
			var decided projection.Checkpoint
			var err error
			if tc.before {
				decided, err = d.Checkpoints().Approve(t.Context(), cp.ID, yes)
				require.NoError(t, err)
			}
			host.kill()
			host = start(t, dir, "")
			waiter = start(t, dir, cp.ID)
			if !tc.before {
				host.kill() // once more, while one waits
				start(t, dir, "")
				decided, err = d.Checkpoints().Approve(t.Context(), cp.ID, yes)
				require.NoError(t, err)
			}
			want, err := json.Marshal(decided.Decision)
			require.NoError(t, err)
			require.JSONEq(t, string(want), waiter.line(t))
			require.JSONEq(t, string(want), start(t, dir, cp.ID).line(t), "whoever waits again gets the same")
		})
	}
}

func TestExpiresWithNobodyButTheHost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, dir, "")
	join := func() *durablestream.DurableStream {
		d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir, JoinOnly: true})
		require.NoError(t, err)
		return d
	}
	d := join()
	cp := brokertest.Ask(t, d.Client(), func(q *client.CheckpointRequest) { q.ExpiresIn = 2 * time.Second })
	require.NoError(t, d.Close())
	limit := cp.RequestedAt.Add(3 * time.Second)
	require.Eventually(t, func() bool { return time.Now().After(limit) }, 5*time.Second, 10*time.Millisecond)
	d = join()
	defer func() { require.NoError(t, d.Close()) }()
	now, err := d.Checkpoints().Get(t.Context(), cp.ID)
	require.NoError(t, err)
	require.Equal(t, projection.Expired, now.Status)
	require.Equal(t, client.SweeperActor, now.Decision.By)
	require.GreaterOrEqual(t, now.Decision.At.Milli(), cp.ExpiresAt.Milli())
	require.Less(t, now.Decision.At.Milli(), limit.UnixMilli())
	t.Logf("expired %d ms after its time", now.Decision.At.Milli()-cp.ExpiresAt.Milli())
}

// What expired while everything was down is decided before anybody can approve it:
// one that waits for the host to come up finds it decided, by the sweeper.
func TestExpiredWhileEverythingWasDown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir, Command: durablestream.Command{NoSweeper: true}})
	require.NoError(t, err)
	cp := brokertest.Ask(t, d.Client(), func(q *client.CheckpointRequest) { q.ExpiresIn = 50 * time.Millisecond })
	i, err := d.Intents().Create(t.Context(), client.IntentSpec{StreamID: "ses", Actor: "agent", Timeout: 50 * time.Millisecond})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	require.Eventually(t, func() bool { return cp.PastDue(time.Now()) && i.PastDue(time.Now()) }, 5*time.Second, time.Millisecond)

	type answer struct {
		late *durablestream.DurableStream
		err  error
	}
	answers := make(chan answer)
	go func() {
		late, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir, JoinOnly: true})
		if err == nil {
			_, err = late.Checkpoints().Approve(t.Context(), cp.ID, yes)
		}
		answers <- answer{late, err}
	}()
	host := openIn(t, dir)
	now, err := host.Checkpoints().Get(t.Context(), cp.ID)
	require.NoError(t, err)
	require.Equal(t, projection.Expired, now.Status, "when Open returns it is decided")
	ended, err := host.Intents().Get(t.Context(), i.ID)
	require.NoError(t, err)
	require.Equal(t, projection.Failed, ended.Status)
	a := <-answers
	require.ErrorIs(t, a.err, client.ErrExpired)
	require.NoError(t, a.late.Close())
}

func TestResumeAfterImport(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("internal/legacy/testdata/expected.json")
	require.NoError(t, err)
	var want struct {
		Events      uint64   `json:"events_replayed"`
		Checkpoints []string `json:"pending_checkpoints"`
		Intents     []string `json:"active_intents"`
		At          int64    `json:"last_event_at"`
	}
	require.NoError(t, json.Unmarshal(raw, &want))
	dir := t.TempDir()
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.NoError(t, err)
	_, err = d.Admin().Import(t.Context(), "original", readLegacy(t), nil)
	require.NoError(t, err)
	check := func(more int) {
		t.Helper()
		r, err := d.Resume(t.Context())
		require.NoError(t, err)
		var checkpoints, intents []string
		for _, cp := range r.PendingCheckpoints {
			checkpoints = append(checkpoints, cp.ID)
			require.True(t, cp.Imported)
			require.Equal(t, cp.PastDue(time.Now()), cp.Overdue)
		}
		for _, i := range r.ActiveIntents {
			intents = append(intents, i.ID)
			require.True(t, i.Imported)
		}
		require.ElementsMatch(t, want.Checkpoints, checkpoints)
		require.ElementsMatch(t, want.Intents, intents)
		require.Equal(t, want.Events+uint64(more), r.EventsReplayed)
		if more == 0 {
			require.Equal(t, want.At, r.LastEventAt.Milli())
		}
	}
	check(0)
	// The sweeper is at work, and leaves them alone: also where it finds them at start.
	for n := range 2 {
		cp := brokertest.Ask(t, d.Client(), func(q *client.CheckpointRequest) { q.ExpiresIn = 100 * time.Millisecond })
		cp, err = d.Checkpoints().Wait(t.Context(), cp.ID)
		require.NoError(t, err)
		require.Equal(t, projection.Expired, cp.Status)
		check(2 * (n + 1))
		require.NoError(t, d.Close())
		d, err = durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
		require.NoError(t, err)
	}
	defer func() { require.NoError(t, d.Close()) }()
	check(4)

	// Until somebody says that their time has passed, or decides.
	before, err := d.Resume(t.Context())
	require.NoError(t, err)
	dueCheckpoints, dueIntents := 0, 0
	for _, cp := range before.PendingCheckpoints {
		if cp.Overdue {
			dueCheckpoints++
		}
	}
	for _, i := range before.ActiveIntents {
		if i.Overdue {
			dueIntents++
		}
	}
	t.Logf("overdue: %d of %d checkpoints, %d of %d intents", dueCheckpoints, len(want.Checkpoints), dueIntents, len(want.Intents))
	checkpoints, intents, err := d.Client().Deadlines().ExpireImported(t.Context())
	require.NoError(t, err)
	require.Equal(t, dueCheckpoints, checkpoints)
	require.Equal(t, dueIntents, intents)
	after, err := d.Resume(t.Context())
	require.NoError(t, err)
	require.Len(t, after.PendingCheckpoints, len(want.Checkpoints)-checkpoints)
	require.Len(t, after.ActiveIntents, len(want.Intents)-intents)
	for _, cp := range after.PendingCheckpoints {
		_, err := d.Checkpoints().Reject(t.Context(), cp.ID, client.Rejection{By: "ann", Reason: "long ago"})
		require.NoError(t, err)
	}
	for _, i := range after.ActiveIntents {
		_, err := d.Intents().Abort(t.Context(), i.ID, client.End{By: "ann"})
		require.NoError(t, err)
	}
}

// restored closes d, deletes its store, restores it from the mirror, and opens it.
func restored(t *testing.T, d *durablestream.DurableStream) *durablestream.DurableStream {
	t.Helper()
	dir := d.Dir()
	require.NoError(t, d.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, durablestream.HostDir)))
	r, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir, Command: durablestream.Command{NoMirror: true, NoSweeper: true, Restoring: true}})
	require.NoError(t, err)
	_, err = mirror.Restore(t.Context(), mirror.RestoreConfig{Client: r.Client(), Conn: r.Admin().Conn(), From: []string{dir}, Recreate: r.Admin().RecreateLog})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return openIn(t, dir)
}

func TestDecisionsSurviveARestore(t *testing.T) {
	t.Parallel()
	d := openIn(t, t.TempDir(), func(c *durablestream.Config) { c.MirrorMaxBytes = 4 << 10 }) // in several files
	approved, pending, other := brokertest.Ask(t, d.Client()), brokertest.Ask(t, d.Client()), brokertest.Ask(t, d.Client())
	was, err := d.Checkpoints().Approve(t.Context(), approved.ID, yes)
	require.NoError(t, err)
	_, err = d.Checkpoints().Cancel(t.Context(), other.ID, client.Cancellation{By: "ann", Reason: ""})
	require.NoError(t, err)
	var intents []projection.Intent
	for range 3 {
		i, err := d.Intents().Create(t.Context(), client.IntentSpec{StreamID: "ses", Actor: "agent"})
		require.NoError(t, err)
		intents = append(intents, i)
	}
	l, err := d.Intents().Claim(t.Context(), intents[0].ID, "worker", time.Hour)
	require.NoError(t, err)
	done, err := d.Intents().Complete(t.Context(), intents[1].ID, client.End{By: "worker", Result: "r"})
	require.NoError(t, err)
	rotate(t, d)

	d = restored(t, d)
	now, err := d.Checkpoints().Get(t.Context(), approved.ID)
	require.NoError(t, err)
	require.Equal(t, was, now)
	_, err = d.Checkpoints().Reject(t.Context(), approved.ID, client.Rejection{By: "bob", Reason: ""})
	var decided *client.DecidedError
	require.ErrorAs(t, err, &decided)
	require.Equal(t, was.Decision, decided.Checkpoint.Decision)
	_, err = d.Checkpoints().Approve(t.Context(), other.ID, yes)
	require.ErrorIs(t, err, client.ErrCancelled)
	_, err = d.Checkpoints().Approve(t.Context(), pending.ID, yes)
	require.NoError(t, err)
	_, err = d.Checkpoints().Reject(t.Context(), pending.ID, client.Rejection{By: "bob", Reason: ""})
	require.ErrorIs(t, err, client.ErrDecided)

	_, err = d.Intents().Fail(t.Context(), done.ID, client.End{By: "x"})
	require.ErrorIs(t, err, client.ErrIntentEnded)
	// Leases are void: the old holder is fenced off, and any process may claim.
	_, err = d.Intents().Complete(t.Context(), intents[0].ID, client.End{By: "worker", Token: l.Token})
	require.Error(t, err)
	for _, i := range []projection.Intent{intents[0], intents[2]} {
		l, err := d.Intents().Claim(t.Context(), i.ID, "another", time.Hour)
		require.NoError(t, err)
		_, err = d.Intents().Complete(t.Context(), i.ID, client.End{By: "another", Token: l.Token})
		require.NoError(t, err)
	}
}

// rotate appends until the mirror, with small files, has begun several new ones.
func rotate(t *testing.T, d *durablestream.DurableStream) {
	t.Helper()
	for range 4 {
		var last event.Sequence
		for range 20 {
			r, err := d.Append(t.Context(), event.Event{Type: "task.created", StreamID: "ses", Actor: "agent", Payload: fmt.Appendf(nil, "%q", strings.Repeat("x", 300))})
			require.NoError(t, err)
			last = r.Seq
		}
		require.Eventually(t, func() bool { // a new file begins with a batch of lines
			s, err := d.Admin().HostStatus(t.Context())
			require.NoError(t, err)
			return s.MirrorSeq >= last
		}, 5*time.Second, time.Millisecond)
	}
	files, err := filepath.Glob(filepath.Join(d.Dir(), "durable_stream.seq-*.jsonl"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 2, "the file was rotated")
}

// TestTheOriginalsWrongs has one test for each thing that the original got wrong and
// its users paid for.
func TestTheOriginalsWrongs(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]func(*testing.T, *durablestream.DurableStream){
		"approve and reject both succeeded": func(t *testing.T, d *durablestream.DurableStream) {
			cp := brokertest.Ask(t, d.Client())
			_, err := d.Checkpoints().Approve(t.Context(), cp.ID, yes)
			require.NoError(t, err)
			_, err = d.Checkpoints().Reject(t.Context(), cp.ID, client.Rejection{By: "bob", Reason: ""})
			require.ErrorIs(t, err, client.ErrDecided)
			require.Len(t, collect(t, d, event.Filter{Types: []string{event.CheckpointApproved, event.CheckpointRejected}}), 1)
		},
		"nothing blocked": func(t *testing.T, d *durablestream.DurableStream) {
			cp := brokertest.Ask(t, d.Client())
			short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := d.Checkpoints().Wait(short, cp.ID)
			require.ErrorIs(t, err, context.DeadlineExceeded, "it blocks as long as nobody decides")
			got := make(chan projection.Checkpoint, 1)
			go func() {
				now, err := d.Checkpoints().Wait(t.Context(), cp.ID)
				if err != nil {
					t.Error(err)
				}
				got <- now
			}()
			require.Empty(t, got)
			decided, err := d.Checkpoints().Approve(t.Context(), cp.ID, yes)
			require.NoError(t, err)
			require.Equal(t, decided, <-got)
		},
		"expiry was not enforced": func(t *testing.T, d *durablestream.DurableStream) {
			cp := brokertest.Ask(t, d.Client(), func(q *client.CheckpointRequest) { q.ExpiresIn = time.Millisecond })
			require.Eventually(t, func() bool { return !time.Now().Before(cp.ExpiresAt.Time) }, time.Second, time.Millisecond)
			_, err := d.Checkpoints().Approve(t.Context(), cp.ID, yes)
			require.ErrorIs(t, err, client.ErrExpired)
			now, err := d.Checkpoints().Wait(t.Context(), cp.ID)
			require.NoError(t, err)
			require.Equal(t, projection.Expired, now.Status)
		},
		"an unknown option was accepted": func(t *testing.T, d *durablestream.DurableStream) {
			_, err := d.Checkpoints().Approve(t.Context(), brokertest.Ask(t, d.Client()).ID, client.Approval{By: "ann", Option: "maybe"})
			require.ErrorIs(t, err, client.ErrUnknownOption)
		},
		"the agent approved itself": func(t *testing.T, d *durablestream.DurableStream) {
			_, err := d.Checkpoints().Approve(t.Context(), brokertest.Ask(t, d.Client()).ID, client.Approval{By: "agent", Option: "yes"})
			require.ErrorIs(t, err, client.ErrOwnCheckpoint)
		},
		"pending questions were lost at rotation": func(t *testing.T, d *durablestream.DurableStream) {
			cp := brokertest.Ask(t, d.Client())
			rotate(t, d)
			waits := func(d *durablestream.DurableStream) {
				r, err := d.Resume(t.Context())
				require.NoError(t, err)
				require.Len(t, r.PendingCheckpoints, 1)
				require.Equal(t, cp.ID, r.PendingCheckpoints[0].ID)
			}
			waits(d)
			waits(restored(t, d)) // and in the files it is, too
		},
		"aborted work came back as running after a restart": func(t *testing.T, d *durablestream.DurableStream) {
			i, err := d.Intents().Create(t.Context(), client.IntentSpec{StreamID: "ses", Actor: "agent"})
			require.NoError(t, err)
			_, err = d.Intents().Claim(t.Context(), i.ID, "worker", time.Hour)
			require.NoError(t, err)
			_, err = d.Sessions().Abort(t.Context(), "ses", "ann", "stop")
			require.NoError(t, err)
			dir := d.Dir()
			require.NoError(t, d.Close())
			d = openIn(t, dir)
			r, err := d.Resume(t.Context())
			require.NoError(t, err)
			require.Empty(t, r.ActiveIntents)
			now, err := d.Intents().Get(t.Context(), i.ID)
			require.NoError(t, err)
			require.Equal(t, projection.Aborted, now.Status)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong(t, openIn(t, t.TempDir(), func(c *durablestream.Config) { c.MirrorMaxBytes = 4 << 10 }))
		})
	}
}
