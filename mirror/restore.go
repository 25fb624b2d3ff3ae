package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wire"
)

// RestoreConfig names the source and the target of a restore.
type RestoreConfig struct {
	// Client reads the Log, and Conn, which must lead to the same server, writes
	// it: a restore changes the Log's configuration, which needs its owner's rights.
	// Both are required.
	Client *client.Client
	Conn   *nats.Conn
	// From names directories that hold a mirror, or files of one, in any order.
	// Default: the directory .opencode.
	From []string
	// Partial restores files that do not begin where their Log began. By default Restore
	// refuses them with ErrIncomplete, since a changed first line looks the same.
	Partial bool
	// Recreate creates the empty Log again with the given first Sequence. Restore calls
	// it if the files begin late, or if the empty Log's position is beyond their
	// beginning. By default Restore fills the missing positions in front with voids.
	Recreate func(ctx context.Context, first event.Sequence) error
	// Progress, if not nil, is called with the number of restored lines and the number of
	// all lines.
	Progress func(done, total uint64)
}

// RestoreReport is the result of a restore.
type RestoreReport struct {
	Files     int            `json:"files"`
	Lines     uint64         `json:"lines"` // events in the Log now
	First     event.Sequence `json:"first"`
	Last      event.Sequence `json:"last"`
	Guards    uint64         `json:"guards"`    // written back by this restore, and
	Voids     uint64         `json:"voids"`     // the other gaps it filled
	Resumed   bool           `json:"resumed"`   // an interrupted restore was finished
	Recreated bool           `json:"recreated"` // Recreate was called
	Anchored  bool           `json:"anchored"`  // older files are missing (RestoreConfig.Partial)
	Torn      bool           `json:"torn"`      // the last line was cut off, and left out
}

// manyVoids is the gap in front from which on Restore creates the Log again instead of
// filling it.
const manyVoids = 1000

// Restore rebuilds an empty Log from a mirror's files: the same ids, bodies and
// Sequences. It writes the guards of decisions and intents back to their Sequences, right
// before their events, so that decided checkpoints stay decided; it fills every other gap
// with a void, a guard without meaning. So leases are void.
//
// Restore checks all lines before it writes. While it runs, the Log is marked, and a host
// refuses it. To continue an interrupted restore, call Restore again with the same files.
// No other client may write to the Log meanwhile: each batch states the Sequence that it
// expects to be the last one.
//
// Its errors: ErrNotEmpty, ErrNoLines, ErrIncomplete, *DamageError, *OriginalError,
// *ForeignError (an interrupted restore was from other files) before it changes anything;
// ErrInterfered and the engine's own errors afterwards.
func Restore(ctx context.Context, cfg RestoreConfig) (RestoreReport, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(uint64, uint64) {}
	}
	if len(cfg.From) == 0 {
		cfg.From = []string{DefaultDir}
	}
	r := &restorer{cfg: cfg}
	err := r.run(ctx)
	if err != nil {
		err = fmt.Errorf("mirror: restore: %w", err)
	}
	return r.report, err
}

// CheckSources reads all lines that Restore would read from the same files. A caller so
// finds files that cannot be restored before it creates a Log. Its errors are those of
// Restore about files.
func CheckSources(cfg RestoreConfig) (err error) {
	r := &restorer{cfg: cfg}
	if len(r.cfg.From) == 0 {
		r.cfg.From = []string{DefaultDir}
	}
	if r.files, err = sources(r.cfg.From); err == nil {
		_, err = r.survey(client.State{}, math.MaxInt)
	}
	if err != nil {
		return fmt.Errorf("mirror: restore: %w", err)
	}
	return nil
}

type restorer struct {
	cfg    RestoreConfig
	js     jetstream.JetStream
	files  []file
	report RestoreReport
	total  uint64 // lines in the files

	start event.Sequence // of the first message: the first line's or its guard's
	at    event.Sequence // the Log's last Sequence before the first batch
}

func (r *restorer) run(ctx context.Context) (err error) {
	if err := r.cfg.Client.Admin().Needs(client.RoleAdmin, "restore a log"); err != nil {
		return err
	}
	if r.js, err = jetstream.New(r.cfg.Conn); err != nil {
		return err
	}
	if r.files, err = sources(r.cfg.From); err != nil {
		return err
	}
	st, err := r.cfg.Client.Admin().State(ctx)
	if err != nil {
		return err
	}
	r.report.Resumed = st.Messages > 0
	if st.Messages > 0 && !wire.IsRestoring(st.Config) {
		return fmt.Errorf("%w: its last seq is %d", ErrNotEmpty, st.Last)
	}
	last, err := r.survey(st, int(r.cfg.Conn.MaxPayload()))
	if err != nil {
		return err
	}
	switch {
	case st.Messages > 0 && (st.Last > r.report.Last || begin(st) > r.start):
		return &ForeignError{r.files[0].path, st.Last}
	case last != nil:
		err = compare(ctx, r.cfg.Client, st, *last)
	case st.Messages == 0:
		st, err = r.makeRoom(ctx, st)
	}
	if err != nil {
		return err
	}
	r.at = st.Last
	if err := r.mark(ctx, true); err != nil {
		return err
	}
	if err := r.write(ctx); err != nil {
		return err
	}
	return r.mark(ctx, false)
}

// survey reads and checks all lines, none of which may need a message above limit bytes.
// It returns the last line that a restore wrote before it was interrupted at st; nil if
// there is none.
func (r *restorer) survey(st client.State, limit int) (last *Line, err error) {
	in := openFiles(slices.Clone(r.files))
	defer in.close()
	for {
		l, err := in.next()
		if waitable(err) {
			r.report.Torn = !errors.Is(err, io.EOF)
			break
		}
		if err != nil {
			return nil, err
		}
		if in.anchored && !r.cfg.Partial {
			return nil, fmt.Errorf("%w (%s, seq %d)", ErrIncomplete, l.File, l.Recorded.Seq)
		}
		if size := wire.Size(wire.EncodeBody(l.Recorded, l.Body)); size > limit {
			return nil, fmt.Errorf("%s, line %d: the event has %d bytes with its headers, and the server takes %d", l.File, l.Number, size, limit)
		}
		if l.first {
			r.report.First, r.start = l.Recorded.Seq, l.Recorded.Seq
			if _, ok := guardOf(l); ok && l.Recorded.Seq > 1 {
				r.start--
			}
		}
		if st.Messages > 0 && l.Recorded.Seq <= st.Last {
			last = &l
		}
		r.report.Last = l.Recorded.Seq
		r.total++
	}
	r.report.Files, r.report.Anchored = in.files, in.anchored
	if r.total == 0 {
		return nil, fmt.Errorf("%w in %v", ErrNoLines, r.cfg.From)
	}
	return last, nil
}

// makeRoom creates an empty Log again if the first message cannot follow its position. A
// crash afterwards leaves an empty Log that begins where these files begin.
func (r *restorer) makeRoom(ctx context.Context, st client.State) (client.State, error) {
	stands := r.start - 1
	switch {
	case st.Last == stands, st.Last < stands && (stands-st.Last <= manyVoids || r.cfg.Recreate == nil):
		return st, nil
	case r.cfg.Recreate == nil:
		return st, fmt.Errorf("the Log is empty and stands at seq %d already, beyond the files' first line at %d: it must be made again", st.Last, r.report.First)
	}
	if err := r.cfg.Recreate(ctx, r.start); err != nil {
		return st, err
	}
	r.report.Recreated = true
	st, err := r.cfg.Client.Admin().State(ctx)
	if err == nil && (st.Messages > 0 || st.Last != stands) {
		err = fmt.Errorf("the Log was made again to begin at seq %d, and stands at %d with %d messages", r.start, st.Last, st.Messages)
	}
	return st, err
}

// mark marks the Log as being restored, or removes the mark.
func (r *restorer) mark(ctx context.Context, on bool) error {
	done, err := wire.AskToRestore(ctx, r.cfg.Conn, wire.RestoreRequest{Mark: &on})
	if !done && err == nil {
		err = wire.MarkLog(ctx, r.js, on)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the host does not answer: another restore of this log is perhaps under way, or has just ended: wait for its end, and look with 'dstream status' before you begin again: %w", err)
	}
	if err != nil {
		return fmt.Errorf("cannot mark the Log as being restored (%v): %w", on, err)
	}
	return nil
}

// write reads the files again and writes the lines that the Log does not have yet.
func (r *restorer) write(ctx context.Context) error {
	in := openFiles(slices.Clone(r.files))
	defer in.close()
	p := newPublisher(r.cfg.Client, r.cfg.Conn, r.js, r.at)
	for r.report.Lines < r.total {
		l, err := in.next()
		if err != nil {
			return fmt.Errorf("the files changed while they were read: %w", err)
		}
		for p.next() <= l.Recorded.Seq {
			if err := p.add(ctx, r.message(l, p.next())); err != nil {
				return err
			}
		}
		r.report.Lines++
		if p.empty() {
			r.cfg.Progress(r.report.Lines, r.total)
		}
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	r.cfg.Progress(r.report.Lines, r.total)
	return nil
}

// message is what stood at seq, which is l's or in the gap before it.
func (r *restorer) message(l Line, seq event.Sequence) *nats.Msg {
	m := messageAt(l, seq)
	switch {
	case seq == l.Recorded.Seq:
	case m.Subject == l.Recorded.Guard:
		r.report.Guards++
	default:
		r.report.Voids++
	}
	return m
}

// messageAt is what stood at seq, which is l's or in the gap before it, as far as l
// tells.
func messageAt(l Line, seq event.Sequence) *nats.Msg {
	if seq == l.Recorded.Seq {
		return wire.EncodeBody(l.Recorded, l.Body)
	}
	if body, ok := guardOf(l); ok && seq == l.Recorded.Seq-1 {
		return wire.EncodeGuard(l.Recorded.Guard, body.Encode())
	}
	// Not without a body: through the imports of another account, an empty message ends
	// the answer to a reader's request, and it waits.
	return wire.EncodeGuard(wire.GuardSubject(event.GuardVoid, seq.String()), []byte("{}"))
}

// guardOf is the guard that stood right before a line's event, if there is a gap:
// an event that is not the first of its batch names the guard too, and has the
// event before it there.
func guardOf(l Line) (wire.GuardBody, bool) {
	guard := l.Recorded.Guard
	if _, _, ok := wire.ParseGuardSubject(guard); !ok {
		return wire.GuardBody{}, false
	}
	if subject, body, ok := wire.Protected(l.Recorded.Event); ok && subject == guard {
		return body, true
	}
	return wire.GuardBody{Event: l.Recorded.ID, Type: l.Recorded.Type}, true
}

// sources returns the files that from names, in the order of their first lines.
func sources(from []string) ([]file, error) {
	var files []file
	for _, path := range from {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			first, _ := parseRotated(filepath.Base(path))
			files = append(files, file{path, first})
			continue
		}
		inside, err := list(path)
		if err != nil {
			return nil, err
		}
		files = append(files, inside...)
	}
	order := map[string]event.Sequence{}
	for _, f := range files {
		seq, err := firstSeq(f.path)
		if err != nil {
			return nil, err
		}
		order[f.path] = seq
	}
	slices.SortStableFunc(files, func(a, b file) int { return cmp.Compare(order[a.path], order[b.path]) })
	return files, nil
}

// firstSeq reads where a file belongs. One without a first line comes last, where
// alone it may be; one with another first line comes first, and is reported.
func firstSeq(path string) (event.Sequence, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	line, whole, err := firstLine(f)
	if err != nil {
		return 0, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if !whole {
		return ^event.Sequence(0), nil
	}
	p, _ := split(line)
	return p.seq, nil
}
