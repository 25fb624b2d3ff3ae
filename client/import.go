package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// ImportReport reports the result of an import, by event.
type ImportReport struct {
	Stored  int       // new in the Log
	Present int       // stored in the Log before, by their id
	Refused []Refusal // refused by the Log's rules
}

// Refusal is one event that was not imported.
type Refusal struct {
	Index int // in the events given
	Err   error
}

const (
	importBytes = 16 << 20 // the most that one batch of an import holds: far below a server's memory
	importLooks = 100      // how often an import that meets concurrent writers reads their changes
)

// Import stores events that were recorded elsewhere, in the order given, marked as
// imported, with their ids and timestamps. It may be repeated at any time: an event whose
// id is in the Log is not stored again. Import writes decisions and the ends of intents
// behind their guards, only the first of each: a second decision of the same checkpoint
// is kept as an event without effect.
//
// Every batch moves the guard of the import's name, so of two concurrent imports one sees
// the other and reads the Log again. After each batch, Import calls progress, if not nil,
// with the number of events processed.
func (adm Admin) Import(ctx context.Context, name string, events []event.Event, progress func(done int)) (ImportReport, error) {
	c := adm.c
	return c.importAll(ctx, name, len(events), func(i int) (event.Recorded, error) { return c.importable(events[i]) }, progress)
}

// ImportLog is Import for the events of another Log. A decision or end that has no guard
// before it there has no effect here either. A checkpoint or intent that is open there is
// open here, and may be decided, claimed and ended as if it had been created here. Leases
// are void.
func (adm Admin) ImportLog(ctx context.Context, name string, events []event.Recorded, progress func(done int)) (ImportReport, error) {
	c := adm.c
	return c.importAll(ctx, name, len(events), func(i int) (event.Recorded, error) {
		r, err := c.importable(events[i].Event)
		if events[i].Guard == "" && !begins(r.Event) {
			r.Guard = ""
		}
		return r, err
	}, progress)
}

// begins reports whether an event creates a checkpoint or an intent.
func begins(e event.Event) bool {
	return e.Type == event.CheckpointRequested || e.Type == event.AgentSpawned
}

func (c *Client) importAll(ctx context.Context, name string, n int, get func(int) (event.Recorded, error), progress func(done int)) (ImportReport, error) {
	if progress == nil {
		progress = func(int) {}
	}
	im := &importer{c: c, guard: wire.GuardSubject(event.GuardImport, name), progress: progress}
	if err := c.mayStore(im.guard); err != nil {
		return im.report, fmt.Errorf("client: %w", err)
	}
	for i := range n {
		r, err := get(i)
		if err != nil {
			im.report.Refused = append(im.report.Refused, Refusal{i, err})
			continue
		}
		im.todo = append(im.todo, r)
	}
	for range importLooks {
		before := im.report.Stored
		err := im.run(ctx)
		var conflict *ConflictError
		if err == nil || ctx.Err() != nil || !errors.As(err, &conflict) && !errors.Is(err, ErrDuplicateID) {
			return im.report, err
		}
		// Another process imports, or changes what was imported: read again.
		c.cfg.Logger.Info("import: looking again", "stored", im.report.Stored-before, "err", err)
	}
	return im.report, fmt.Errorf("client: import: others changed the log at each of %d tries; %d events are stored, run it again", importLooks, im.report.Stored)
}

// importable checks an event and fills in nothing.
func (c *Client) importable(e event.Event) (event.Recorded, error) {
	r := event.Recorded{Event: e, Imported: true}
	if err := e.Validate(); err != nil {
		return r, err
	}
	if err := wire.CheckProtected(e); err != nil {
		return r, err
	}
	r.Guard = importGuard(e)
	return r, c.log.CheckEvent(&r, c.log.MaxPayload())
}

// importGuard names the guard of an imported event. An event whose payload readers would
// understand in two ways moves no guard, and so has no effect.
func importGuard(e event.Event) string {
	guard, _, ok := wire.Protected(e)
	if !ok || e.Type == event.CheckpointGuardVoided {
		return ""
	}
	_, id, _ := wire.ParseGuardSubject(guard)
	if _, of := concerns(e); of != id {
		return ""
	}
	return guard
}

// concerns names the guard's subject and the id of the request or creation that an event
// stores or ends, as folds read it.
func concerns(e event.Event) (subject, id string) {
	r := event.Recorded{Event: e}
	switch typ := e.Type; {
	case typ == event.CheckpointRequested:
		cp, err := projection.NewCheckpoint(r)
		if err == nil {
			id = cp.ID
		}
		return wire.GuardSubject(event.GuardRequest, id), id
	case event.IsDecision(typ):
		of, _, err := projection.NewDecision(r)
		if err == nil {
			id = of
		}
		return wire.GuardSubject(event.GuardRequest, id), id
	case typ == event.AgentSpawned:
		i, err := projection.NewIntent(r, time.Time{})
		if err == nil {
			id = i.ID
		}
	default:
		var p event.IntentEnd
		if json.Unmarshal(e.Payload, &p) == nil {
			id = p.IntentID
		}
	}
	return wire.GuardSubject(event.GuardIntent, id), id
}

// importer is one import in progress.
type importer struct {
	c        *Client
	guard    string // of the import's name
	todo     []event.Recorded
	report   ImportReport
	progress func(int)

	at     event.Sequence        // the import guard's last Sequence
	guards map[string]guardState // of checkpoints, requests and intents, by subject
	// imported has the checkpoints and intents that an import stored, by the guard of
	// their creation. An imported event may decide or end only these: it did not pass the
	// rules, and must not bypass those of a live one.
	imported map[string]bool
	batch    logio.Batch               // the messages gathered so far
	inside   map[string]event.Sequence // guards within batch
	size     int                       // bytes in batch, at most
}

// guardState is a guard's last message.
type guardState struct {
	seq  event.Sequence
	done bool // decided or ended: nothing may follow
}

// run reads what the Log has, and stores the rest.
func (im *importer) run(ctx context.Context) error {
	if err := im.look(ctx); err != nil {
		return fmt.Errorf("client: import: %w", err)
	}
	for len(im.todo) > 0 {
		n := im.gather()
		if err := im.c.log.PublishBatch(ctx, im.batch); err != nil {
			return fmt.Errorf("client: import: %w", err)
		}
		im.stored(n)
		im.progress(im.report.Present + im.report.Stored)
	}
	return nil
}

// look reads the import guard, and then which ids and guards the Log holds. The order
// matters: an import that changes the Log after the guard was read makes our next batch
// fail.
func (im *importer) look(ctx context.Context) error {
	last, err := im.c.log.Last(ctx, im.guard)
	if err != nil {
		return err
	}
	im.at = 0
	if last != nil {
		im.at = event.Sequence(last.Sequence)
	}
	end, err := im.c.log.Position(ctx)
	if err != nil {
		return err
	}
	if err := im.readGuards(ctx, end); err != nil {
		return err
	}
	ids := make(map[string]bool, len(im.todo))
	for _, r := range im.todo {
		ids[wire.HeaderValue(r.ID)] = false
	}
	if end > 0 {
		cfg := logio.FeedConfig{Subjects: []string{wire.AllEvents}, Until: end, HeadersOnly: true}
		for m, err := range im.c.log.Feed(ctx, cfg) {
			if err != nil {
				return err
			}
			if _, ok := ids[m.Header.Get(wire.HeaderID)]; ok {
				ids[m.Header.Get(wire.HeaderID)] = true
			}
		}
	}
	rest := im.todo[:0:0]
	for _, r := range im.todo {
		h := wire.HeaderValue(r.ID)
		if ids[h] {
			im.report.Present++
			continue
		}
		ids[h] = true // for a second one in the same files
		rest = append(rest, r)
	}
	im.todo = rest
	im.progress(im.report.Present + im.report.Stored)
	return nil
}

func (im *importer) readGuards(ctx context.Context, end event.Sequence) error {
	im.guards, im.imported = map[string]guardState{}, map[string]bool{}
	if end == 0 {
		return nil
	}
	begins := event.Filter{Types: []string{event.CheckpointRequested, event.AgentSpawned}}
	for m, err := range im.c.log.Feed(ctx, logio.FeedConfig{Subjects: wire.FilterSubjects(begins), Until: end}) {
		if err != nil {
			return err
		}
		e, ok := im.c.entry(m)
		im.c.imports.believe(ctx, e.Event)
		if ok && e.Event.Imported && e.Event.Guard != "" {
			im.imported[e.Event.Guard] = true
		}
	}
	for m, err := range im.c.log.Feed(ctx, logio.FeedConfig{Subjects: wire.DecisionGuards(), Until: end}) {
		if err != nil {
			return err
		}
		im.guards[m.Subject] = guardState{m.Seq, wire.GuardIsFinal(m.Subject, m.Data)}
	}
	return nil
}

// gather fills the batch with the import guard and the next events, each behind its own
// guard if it needs one, and returns the number of these events.
func (im *importer) gather() int {
	body := wire.GuardBody{Event: rand.Text()}.Encode()
	im.batch = logio.Batch{logio.OfGuard(im.guard, body, im.at)}
	im.inside = map[string]event.Sequence{}
	im.size = 0
	for i, r := range im.todo {
		needed := 1
		state, ok := im.guards[r.Guard]
		subject, _ := concerns(r.Event)
		begins := begins(r.Event)
		if r.Guard != "" && (ok && (state.done || begins) || !begins && !im.imported[subject]) {
			r.Guard = "" // already decided, or not for an import to decide: kept as an event, without effect
		}
		if r.Guard != "" {
			needed = 2
		}
		if len(im.batch)+needed > importBatch || im.size > importBytes {
			return i
		}
		if r.Guard != "" {
			im.addGuard(r, state.seq)
			if begins {
				im.imported[r.Guard] = true
			}
		}
		im.size += wire.SizeAtMost(&r)
		im.batch = append(im.batch, logio.OfEvent(&r))
	}
	return len(im.todo)
}

// addGuard puts an event's guard before it. Within one batch the engine checks only the
// first message on a subject. That is enough: the batch is atomic, so nothing is stored
// in between.
func (im *importer) addGuard(r event.Recorded, expected event.Sequence) {
	_, body, _ := wire.Protected(r.Event)
	data := body.Encode()
	e := logio.OfGuard(r.Guard, data, expected)
	if _, again := im.inside[r.Guard]; again {
		e = logio.OfGuardAgain(r.Guard, data)
	}
	im.inside[r.Guard] = 0
	im.guards[r.Guard] = guardState{expected, wire.GuardIsFinal(r.Guard, data)}
	im.batch = append(im.batch, e)
}

// stored updates the importer's state after a stored batch of n events.
func (im *importer) stored(n int) {
	im.at = im.batch[0].Seq()
	for _, e := range im.batch[1:] {
		if guard := e.Guard(); guard != "" {
			state := im.guards[guard]
			state.seq = e.Seq()
			im.guards[guard] = state
		}
	}
	im.report.Stored += n
	im.todo = im.todo[n:]
}
