package rpc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents/opencode"
	"durablestream/projection"
)

// How a decision comes back to OpenCode.
//
// One goroutine follows the questions and decisions in the Log. A decision of a
// question of this run that did not come from OpenCode itself is told to it. A
// question that was open, or decided, when its OpenCode was killed is gone there:
// its decision is given to the same question asked again, that is in the same session
// about the same exact action.
//
// Safety: whoever gives a decision to a question first writes that down behind a guard
// of the decided checkpoint's own, which moves once. So a decision is given to one
// question only, also when several processes see it; and one that was given to an
// OpenCode, which may have acted upon it before it was killed, is never given again:
// then the human is asked once more.
//
// Liveness: a process that is killed after the guard moved is followed by another one
// of the same run, which finds itself named there and tells OpenCode again. If OpenCode
// was killed as well, the question that was named is open, and can be decided itself.

// follow brings answers to OpenCode as long as ctx lasts.
func (b *bridge) follow(ctx context.Context, a *opencode.Answers, after event.Sequence) {
	for _, q := range a.All() {
		b.act(ctx, a, q)
	}
	for r, err := range b.s.c.Subscribe(ctx, event.Filter{Types: a.Types(), After: after}) {
		if err != nil {
			if ctx.Err() == nil {
				b.s.fail(fmt.Errorf("rpc: decisions cannot be carried back to OpenCode: %w", err))
			}
			return
		}
		if q := a.Apply(r); q != nil {
			b.act(ctx, a, q)
		}
	}
}

// act does what follows from a question, and says what went wrong: that is about this
// question alone, since the client itself waits for a Log that is away.
func (b *bridge) act(ctx context.Context, a *opencode.Answers, q *opencode.Asked) {
	if err := b.react(ctx, a, q); err != nil && ctx.Err() == nil {
		b.s.cfg.Logger.Error("a decision could not be carried back to OpenCode", "checkpoint", q.ID, "err", err)
		b.notice(q.Session, q.ID, fmt.Sprintf("What was decided about %s in the log could not be carried back: %v. Answer it in OpenCode.", q.ID, err))
	}
}

func (b *bridge) own(q *opencode.Asked) bool { return q.Instance == b.instance }

// gone reports whether a question's OpenCode is over for certain.
func (b *bridge) gone(q *opencode.Asked) bool {
	return !b.own(q) && b.s.cfg.Runs.Of(q.Instance) == LifeOver
}

func answered(q *opencode.Asked) bool {
	return q.Status == string(projection.Approved) || q.Status == string(projection.Rejected)
}

// react does what follows from a question as it stands.
func (b *bridge) react(ctx context.Context, a *opencode.Answers, q *opencode.Asked) error {
	same := a.Same(q)
	switch {
	case b.own(q) && (q.Over || b.told[q.ID]):
	case b.own(q) && answered(q):
		if err := b.give(ctx, q); err != nil {
			return err
		}
	case b.own(q):
		for _, p := range same {
			if p.UsedFor != q.ID && (q.Decided || !b.left(p)) {
				continue
			}
			if done, err := b.carry(ctx, p, q); done || err != nil {
				return err
			}
		}
		if q.Decided {
			return b.give(ctx, q)
		}
	case b.left(q):
		for _, o := range same {
			if b.own(o) && !o.Decided && !b.told[o.ID] {
				_, err := b.carry(ctx, q, o)
				return err
			}
		}
	}
	if !b.own(q) || !answered(q) {
		return nil
	}
	for _, p := range same { // the same question, asked before a crash, needs no answer any more
		if !p.Decided && b.gone(p) {
			if err := b.supersede(p, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// left reports whether a question was decided, and its OpenCode ended before it heard.
func (b *bridge) left(q *opencode.Asked) bool {
	return answered(q) && !q.Over && q.UsedFor == "" && b.gone(q)
}

// give tells OpenCode how its question was decided.
func (b *bridge) give(ctx context.Context, q *opencode.Asked) error {
	cp, err := b.s.c.Checkpoint(ctx, q.ID)
	if err != nil || cp.Decision == nil {
		return err
	}
	if answered(q) {
		if ok, err := b.claim(ctx, cp, q.ID); err != nil || !ok {
			return err
		}
	}
	b.answerTo(q, cp)
	return nil
}

// carry gives the decision of a question that was cut off to the same one asked again.
// It reports false where it is not to be had.
func (b *bridge) carry(ctx context.Context, from, to *opencode.Asked) (bool, error) {
	was, err := b.s.c.Checkpoint(ctx, from.ID)
	if err != nil {
		return false, err
	}
	now, err := b.s.c.Checkpoint(ctx, to.ID)
	if err != nil {
		return false, err
	}
	if was.Decision == nil || was.StreamID != now.StreamID || !opencode.SameAction(was.Action, now.Action) || !offers(now, was.Decision) {
		return false, nil
	}
	if ok, err := b.claim(ctx, was, to.ID); err != nil || !ok {
		return false, err
	}
	d := was.Decision
	words := fmt.Sprintf("decided as %s, which asked for the same before OpenCode was interrupted", from.ID)
	e := event.Event{
		ID: idOf(to.ID, "carried"), StreamID: now.StreamID, CorrelationID: now.CorrelationID, CausationID: d.EventID, Actor: d.By,
		Metadata: encode(map[string]string{"opencode_instance": b.instance, "carried_from": from.ID}),
	}
	if d.Status == projection.Approved {
		e.Type = event.CheckpointApproved
		e.Payload = encode(event.Approved{CheckpointID: to.ID, ApprovedBy: d.By, SelectedOption: d.Option, Answer: d.Answer, Comment: words})
	} else {
		e.Type = event.CheckpointRejected
		e.Payload = encode(event.Rejected{CheckpointID: to.ID, RejectedBy: d.By, Reason: d.Reason})
	}
	err = b.append(e)
	var decided *client.DecidedError
	switch {
	case err == nil:
		return true, nil // it comes back as the decision of its own question, and is told then
	case errors.As(err, &decided) && decided.Checkpoint.Status != projection.Cancelled:
		return false, nil // somebody decided that one itself
	case errors.As(err, &decided), errors.Is(err, client.ErrNotAllowed), errors.Is(err, client.ErrOwnCheckpoint):
		// This key may not decide. The decision is an operator's all the same, and is
		// told; the question that it answers is withdrawn.
		b.answerTo(to, was)
		if decided != nil {
			return true, nil //nolint:nilerr // cancelled, as it was to be
		}
		return true, b.askToCancel(opencode.Item{Kind: opencode.Withdraw, Checkpoint: to.ID, Event: event.Event{
			ID: idOf(to.ID, "carried"), StreamID: now.StreamID, CorrelationID: now.CorrelationID, CausationID: d.EventID, Actor: "opencode",
			Metadata: encode(map[string]string{"carried_from": from.ID}),
			Payload:  encode(event.Cancelled{CheckpointID: to.ID, CancelledBy: "opencode", Reason: words}),
		}})
	}
	return false, err
}

// idOf joins ids to one that is not too long.
func idOf(parts ...string) string {
	id := strings.Join(parts, ".")
	if len(id) > 200 {
		sum := sha256.Sum256([]byte(id))
		id = hex.EncodeToString(sum[:])
	}
	return id
}

// offers reports whether a question can be answered so.
func offers(cp projection.Checkpoint, d *projection.Decision) bool {
	if d.Status != projection.Approved || d.Option == "" {
		return true
	}
	for _, o := range cp.Options {
		if o.ID == d.Option {
			return true
		}
	}
	return false
}

// claim writes down to which question a decision is given. It reports false where it
// was given to another one.
func (b *bridge) claim(ctx context.Context, cp projection.Checkpoint, to string) (bool, error) {
	used := opencode.Used{Checkpoint: cp.ID, GivenTo: to, Status: string(cp.Decision.Status), DecidedBy: cp.Decision.By}
	_, _, err := b.s.c.AppendGuarded(ctx, client.Guard{Name: idOf("opencode.use", cp.ID)}, event.Event{
		ID: idOf(cp.ID, "used", to), Type: opencode.DecisionUsed, StreamID: cp.StreamID, CorrelationID: cp.CorrelationID,
		CausationID: cp.Decision.EventID, Actor: "opencode", Payload: encode(used),
		Metadata: encode(map[string]string{"opencode_instance": b.instance}),
	})
	var conflict *client.ConflictError
	if !errors.As(err, &conflict) {
		return err == nil, err
	}
	var was opencode.Used
	if w := conflict.Winner; w == nil || w.Type != opencode.DecisionUsed || json.Unmarshal(w.Payload, &was) != nil {
		return false, nil //nolint:nilerr // somebody else's guard
	}
	return was.GivenTo == to, nil // by the process before, of this same run
}

// supersede withdraws a question that was asked again and has its answer.
func (b *bridge) supersede(p, q *opencode.Asked) error {
	cp := event.Cancelled{CheckpointID: p.ID, CancelledBy: "opencode", Reason: fmt.Sprintf("asked again as %s, which was %s", q.ID, q.Status)}
	return b.guarded(opencode.Item{Kind: opencode.Withdraw, Checkpoint: p.ID, Event: event.Event{
		ID: idOf(p.ID, "superseded"), Type: event.CheckpointCancelled, StreamID: p.Session, Actor: "opencode",
		Metadata: encode(map[string]string{"opencode_instance": b.instance}), Payload: encode(cp),
	}})
}

// answer is the notification opencode.answer.
type answer struct {
	SessionID string          `json:"sessionID"`
	Kind      string          `json:"kind"`
	RequestID string          `json:"requestID"`
	Reply     string          `json:"reply"`
	Answers   json.RawMessage `json:"answers,omitempty"`
	Message   string          `json:"message,omitempty"`
	By        string          `json:"by"`
}

// answerTo tells OpenCode the decision of cp as the answer to q.
func (b *bridge) answerTo(q *opencode.Asked, cp projection.Checkpoint) {
	b.told[q.ID] = true
	d := cp.Decision
	n := answer{SessionID: q.Session, Kind: q.Kind, RequestID: q.ID, Reply: "reject", By: d.By}
	switch d.Status {
	case projection.Approved:
		n.Reply, n.Message = "once", d.Comment
		if d.Option == "always" && q.Kind == "permission" {
			n.Reply = "always"
		}
		if q.Kind == "question" {
			n.Answers = labels(cp)
		}
	case projection.Rejected:
		n.Message = d.Reason
	default:
		n.Message = fmt.Sprintf("the question was %s by %s", d.Status, d.By)
		if d.Reason != "" {
			n.Message += ": " + d.Reason
		}
	}
	b.s.notify("opencode.answer", n)
}

// labels are the answers to a question as OpenCode takes them.
func labels(cp projection.Checkpoint) json.RawMessage {
	if len(cp.Decision.Answer) > 0 {
		return cp.Decision.Answer
	}
	for _, o := range cp.Options {
		if o.ID == cp.Decision.Option {
			return encode([][]string{{o.Label}})
		}
	}
	return encode([][]string{{cp.Decision.Option}})
}
