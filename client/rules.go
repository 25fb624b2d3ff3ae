package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
	"durablestream/projection"
)

var (
	// ErrUnknownCheckpoint means that nobody requested a checkpoint under that id.
	ErrUnknownCheckpoint = errors.New("there is no such checkpoint")
	// ErrUnknownOption means that the request has no option of that id.
	ErrUnknownOption = errors.New("the checkpoint has no such option")
	// ErrAnswer means that the answer breaks the request's schema.
	ErrAnswer = errors.New("the answer does not fit the checkpoint's schema")
	// ErrOwnCheckpoint means that the asker tried to decide.
	ErrOwnCheckpoint = errors.New("the asker cannot decide")
	// ErrNotDue means that "expired" cannot be decided before the time has passed.
	ErrNotDue = errors.New("the checkpoint has not expired")

	// ErrDecided is a *DecidedError of a checkpoint that was approved or rejected.
	ErrDecided = errors.New("the checkpoint is decided already")
	// ErrExpired is a *DecidedError of a checkpoint whose time has passed.
	ErrExpired = errors.New("the checkpoint has expired")
	// ErrCancelled is a *DecidedError of a checkpoint that was withdrawn.
	ErrCancelled = errors.New("the checkpoint was cancelled")
)

// DecidedError is a decision that came too late. It carries the decision that stands.
type DecidedError struct {
	Checkpoint projection.Checkpoint
}

func (e *DecidedError) Error() string {
	s := fmt.Sprintf("checkpoint %s: %v", e.Checkpoint.ID, e.Unwrap())
	if d := e.Checkpoint.Decision; d != nil {
		s += fmt.Sprintf(": %s by %s at %s (seq %d)", d.Status, d.By, d.At.UTC().Format(time.RFC3339), d.Seq)
	}
	return s
}

// Unwrap returns ErrDecided, ErrExpired or ErrCancelled.
func (e *DecidedError) Unwrap() error {
	switch {
	case e.Checkpoint.Status == projection.Cancelled:
		return ErrCancelled
	case e.Checkpoint.Status == projection.Expired || e.Checkpoint.Decision == nil:
		return ErrExpired
	}
	return ErrDecided
}

// protection is the guard of an event, and how to store behind it.
type protection struct {
	guard    string
	expected event.Sequence
	body     []byte
	// stored is set instead if this very event was stored before.
	stored event.Sequence
	// lost turns the conflict of a guard that moved meanwhile into the result for the
	// caller: the event that stands for the appended one, or an error.
	lost lostFunc
}

type lostFunc = func(context.Context, *ConflictError) (event.Recorded, error)

// protect applies the rules to an event before it is stored. nil means that the event
// needs no guard. All requests, decisions and states of intents pass through this
// function, from whichever call.
func (c *Client) protect(ctx context.Context, r *event.Recorded) (*protection, error) {
	if err := c.mayAppend(*r); err != nil {
		return nil, err
	}
	switch typ := r.Type; {
	case typ == event.CheckpointRequested:
		return c.protectRequest(r)
	case event.IsDecision(typ):
		return c.protectDecision(ctx, r)
	case typ == event.CheckpointGuardVoided:
		return c.protectVoid(ctx, r)
	case typ == event.AgentSpawned:
		return c.protectSpawn(r)
	case event.EndsIntent(typ):
		return c.protectEnd(ctx, r)
	}
	return nil, nil
}

// mayAppend refuses at once an event that the role of this client's key does not allow.
func (c *Client) mayAppend(r event.Recorded) error {
	if !c.rights.Limited { // avoids building the subject
		return nil
	}
	return c.mayStore(wire.EventSubject(r.Type, r.StreamID))
}

func (c *Client) protectRequest(r *event.Recorded) (*protection, error) {
	cp, err := checkRequest(*r)
	if err != nil {
		return nil, err
	}
	subject, body, err := guardOf(r, event.GuardRequest, "id", cp.ID)
	if err != nil {
		return nil, err
	}
	lost := func(_ context.Context, conflict *ConflictError) (event.Recorded, error) {
		if conflict.Winner == nil {
			return event.Recorded{}, fmt.Errorf("checkpoint %s is taken, and no request of that id is found: use another id: %w", cp.ID, conflict)
		}
		first, err := projection.NewCheckpoint(*conflict.Winner)
		if err == nil && sameQuestion(first, cp) {
			return *conflict.Winner, nil // a repeated request: the first one stands
		}
		return event.Recorded{}, fmt.Errorf("checkpoint %s was asked about another action, or with another question: %w", cp.ID, conflict)
	}
	return &protection{guard: subject, body: body.Encode(), lost: lost}, nil
}

// sameQuestion reports whether first answers the repeated request cp: both are about the
// same action, or, without an action, are the same question of the same asker.
func sameQuestion(first, cp projection.Checkpoint) bool {
	if first.ID != cp.ID || hashOf(first) != hashOf(cp) {
		return false
	}
	return hashOf(cp) != "" || first.DecisionPoint == cp.DecisionPoint && first.RequestedBy == cp.RequestedBy
}

// guardOf names the guard of an event whose payload names id, as a fold reads it. It
// refuses a payload that has the same member in another case too: readers differ on which
// one counts, so the rules would check one id, and the append would move the guard of
// another.
func guardOf(r *event.Recorded, kind, key, id string) (string, wire.GuardBody, error) {
	subject, body, _ := wire.Protected(r.Event)
	if subject != wire.GuardSubject(kind, id) {
		return "", body, &event.InvalidError{Field: "payload." + key, Value: id, Rule: "must be there once, and spelled so"}
	}
	return subject, body, nil
}

func (c *Client) protectDecision(ctx context.Context, r *event.Recorded) (*protection, error) {
	id, _, err := projection.NewDecision(*r)
	if err != nil {
		return nil, &event.InvalidError{Field: "payload", Value: string(r.Payload), Rule: err.Error()}
	}
	if id == "" {
		return nil, &event.InvalidError{Field: "payload.checkpoint_id", Value: "", Rule: "must name the checkpoint that is decided"}
	}
	if _, _, err := guardOf(r, event.GuardCheckpoint, "checkpoint_id", id); err != nil {
		return nil, err
	}
	cp, g, err := c.lookNow(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.protectDecisionOf(ctx, r, cp, g)
}

// protectDecisionOf applies the rules to a decision about cp, whose gate is g.
func (c *Client) protectDecisionOf(ctx context.Context, r *event.Recorded, cp projection.Checkpoint, g projection.Gate) (*protection, error) {
	_, d, err := projection.NewDecision(*r)
	if err != nil {
		return nil, &event.InvalidError{Field: "payload", Value: string(r.Payload), Rule: err.Error()}
	}
	if cp.Decision != nil && cp.Decision.EventID == r.ID {
		return &protection{stored: cp.Decision.Seq}, bind(r, cp) // as stored
	}
	if cp.Decision != nil {
		return nil, &DecidedError{cp}
	}
	if err := mayDecide(cp, d, r); err != nil {
		return nil, err
	}
	if cp.PastDue(time.Now()) && !cp.Imported && d.Status != projection.Expired {
		return nil, c.expire(ctx, cp, g)
	}
	if err := checkChoice(cp, d); err != nil {
		return nil, err
	}
	return c.behindGate(r, cp, g)
}

// behindGate binds a decision to its request and puts the decision behind the
// checkpoint's guard.
func (c *Client) behindGate(r *event.Recorded, cp projection.Checkpoint, g projection.Gate) (*protection, error) {
	subject, body, err := guardOf(r, event.GuardCheckpoint, "checkpoint_id", cp.ID)
	if err != nil {
		return nil, err
	}
	if err := bind(r, cp); err != nil {
		return nil, err
	}
	lost := func(ctx context.Context, conflict *ConflictError) (event.Recorded, error) {
		if conflict.Winner != nil {
			if of, d, err := projection.NewDecision(*conflict.Winner); err == nil && of == cp.ID {
				if conflict.Winner.ID == r.ID { // the same call, sent twice at the same time
					return c.log.Same(ctx, event.Recorded{Event: r.Event, Seq: conflict.Winner.Seq})
				}
				cp.Decision, cp.Status = &d, d.Status
				return event.Recorded{}, &DecidedError{cp}
			}
		}
		now, err := c.Checkpoints().Get(ctx, cp.ID)
		switch {
		case err == nil && now.Decision == nil:
			err = conflict // an operator voided the guard meanwhile: a retry may decide
		case err == nil:
			err = &DecidedError{now}
		}
		return event.Recorded{}, err
	}
	return &protection{guard: subject, expected: g.At, body: body.Encode(), lost: lost}, nil
}

// mayDecide checks that the decider may decide, and for "expired" that the time has
// passed.
func mayDecide(cp projection.Checkpoint, d projection.Decision, r *event.Recorded) error {
	if d.Status == projection.Expired {
		if cp.ExpiresAt.IsZero() || time.Now().Before(cp.ExpiresAt.Time) {
			return fmt.Errorf("checkpoint %s: %w", cp.ID, ErrNotDue)
		}
		return nil
	}
	onBehalf := d.Status == projection.Cancelled && r.Actor == SweeperActor
	own := func(who string) bool { return who == cp.RequestedBy || who == cp.Actor }
	if (own(r.Actor) || own(d.By)) && !onBehalf {
		return fmt.Errorf("checkpoint %s: %s asked: %w", cp.ID, cp.RequestedBy, ErrOwnCheckpoint)
	}
	return nil
}

// checkChoice checks an approval's option and answer against the request.
func checkChoice(cp projection.Checkpoint, d projection.Decision) error {
	if d.Status != projection.Approved {
		return nil
	}
	known := slices.ContainsFunc(cp.Options, func(o event.Option) bool { return o.ID == d.Option })
	free := d.Option == "" && (len(cp.Options) == 0 || len(cp.Schema) > 0) // the schema is checked below
	if !known && !free {
		return fmt.Errorf("checkpoint %s: option %q: %w: %s", cp.ID, d.Option, ErrUnknownOption, optionList(cp))
	}
	return checkAnswer(cp, d)
}

// expire decides that the time of an overdue checkpoint has passed, since no sweeper has
// done so. It returns the error of a decision that came too late.
func (c *Client) expire(ctx context.Context, cp projection.Checkpoint, g projection.Gate) error {
	r, err := c.decisionEvent(cp, expiry(cp))
	if err != nil {
		return &DecidedError{cp}
	}
	p, err := c.behindGate(&r, cp, g)
	if err == nil {
		r, err = c.appendProtected(ctx, r, p)
	}
	if err == nil {
		var d projection.Decision
		if _, d, err = projection.NewDecision(r); err == nil {
			cp.Decision, cp.Status = &d, d.Status
		}
	}
	var decided *DecidedError
	if errors.As(err, &decided) {
		return decided
	}
	return &DecidedError{cp} // no Decision if none could be stored yet
}

func expiry(cp projection.Checkpoint) decision {
	return decision{typ: event.CheckpointExpired, by: SweeperActor, payload: event.Expired{CheckpointID: cp.ID, ExpiresAt: cp.ExpiresAt}}
}

// Expire decides that a checkpoint's time has passed; ErrNotDue before. Only the sweeper
// calls it.
func (dl Deadlines) Expire(ctx context.Context, cp projection.Checkpoint) (projection.Checkpoint, error) {
	c := dl.c
	return c.decide(ctx, cp.ID, expiry(cp))
}

// SweeperActor is the decider of everything that the sweeper decides.
const SweeperActor = "sweeper"

func optionList(cp projection.Checkpoint) string {
	if len(cp.Options) == 0 {
		return "it has none"
	}
	s := "it has "
	for i, o := range cp.Options {
		if i > 0 {
			s += ", "
		}
		s += o.ID
	}
	return s
}

func checkAnswer(cp projection.Checkpoint, d projection.Decision) error {
	if len(cp.Schema) == 0 {
		return nil
	}
	if len(d.Answer) == 0 {
		if d.Option != "" {
			return nil // the decider chose an option, not a free answer
		}
		return fmt.Errorf("checkpoint %s: %w: it asks for one, and none was given", cp.ID, ErrAnswer)
	}
	schema, err := compileSchema(cp.Schema)
	if err != nil {
		return fmt.Errorf("checkpoint %s: its schema cannot be read: %w", cp.ID, err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(d.Answer))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w: %s", cp.ID, ErrAnswer, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return nil
}

// compileSchema compiles a schema that refers to nothing outside itself.
func compileSchema(schema json.RawMessage) (*jsonschema.Schema, error) {
	if len(schema) > maxSchema {
		return nil, fmt.Errorf("it has %d bytes, and the limit is %d", len(schema), maxSchema)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	comp := jsonschema.NewCompiler()
	comp.AssertFormat()
	comp.UseLoader(noLoader{})
	if err := comp.AddResource(schemaURL, doc); err != nil {
		return nil, err
	}
	return comp.Compile(schemaURL)
}

// maxSchema is in bytes: the validator's time grows with the square of a schema's size.
const (
	maxSchema = 64 << 10
	schemaURL = "schema:checkpoint"
)

type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("a checkpoint's schema cannot refer to %s", url)
}

// bind writes the decision's request and action hash into the decision.
func bind(r *event.Recorded, cp projection.Checkpoint) error {
	var p map[string]json.RawMessage
	if err := json.Unmarshal(r.Payload, &p); err != nil {
		return &event.InvalidError{Field: "payload", Value: string(r.Payload), Rule: "must be an object"}
	}
	add := func(name string, v any) error {
		b, err := event.Marshal(v)
		if err != nil {
			return err
		}
		if have, ok := p[name]; ok && string(have) != string(b) {
			return &event.InvalidError{Field: "payload." + name, Value: string(have), Rule: "must be that of the request, " + string(b)}
		} else if !ok {
			end := len(r.Payload) - 1 // before the closing brace of compact JSON
			sep := ","
			if len(p) == 0 {
				sep = ""
			}
			r.Payload = slices.Concat(r.Payload[:end], []byte(fmt.Sprintf("%s%q:%s", sep, name, b)), []byte("}"))
		}
		return nil
	}
	if err := add("request_seq", cp.Seq); err != nil {
		return err
	}
	if hash := hashOf(cp); hash != "" {
		return add("action_hash", hash)
	}
	return nil
}

// appendProtected stores an event behind its guard.
func (c *Client) appendProtected(ctx context.Context, r event.Recorded, p *protection) (event.Recorded, error) {
	if p.stored != 0 {
		r.Seq = p.stored
		return c.log.Same(ctx, r)
	}
	r.Guard = p.guard
	b := logio.Batch{logio.OfGuard(p.guard, p.body, p.expected), logio.OfEvent(&r)}
	err := c.log.PublishBatch(ctx, b)
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		won, err := p.lost(ctx, conflict)
		if err != nil {
			return event.Recorded{}, fmt.Errorf("client: append %s: %w", cmp.Or(r.Type, r.ID), err)
		}
		return won, nil
	}
	if err != nil {
		return event.Recorded{}, err
	}
	return r, nil
}
