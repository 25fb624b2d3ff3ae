package agents

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
	"durablestream/internal/agents/source"
	"durablestream/projection"
)

// How a decision comes back to the agent.
//
// One goroutine follows the questions and decisions in the Log. It gives the agent each
// decision of this run's questions that the agent did not make itself. A killed agent
// forgets its questions. When it asks the same question again (in the same session, about
// the same exact action), the goroutine gives it the decision of the earlier one.
//
// Safety: before a process gives a decision to a question, it appends that with a guard
// of the decided checkpoint, which moves once. So one question gets the decision, also
// when several processes see it. A decision that an agent has got is never given again,
// because the agent may have acted on it before it was killed: the human is asked anew.
//
// Liveness: after a process that was killed behind the guard comes another one of the same
// run. It reads its run's name at the guard and gives the agent the decision again. If the
// agent was killed as well, the named question is open, and a human can decide it.

// follow brings answers to the agent as long as ctx lasts.
func (in *Intake) follow(ctx context.Context, after event.Sequence) {
	for _, q := range in.questions.All() {
		in.act(ctx, q)
	}
	for r, err := range in.cfg.Client.Subscribe(ctx, event.Filter{Types: in.questions.Types(), After: after}) {
		if err != nil {
			if ctx.Err() == nil {
				in.cfg.Fail(fmt.Errorf("agents: decisions cannot be carried back to %s: %w", in.agent.Title, err))
			}
			return
		}
		if q := in.questions.Apply(r); q != nil {
			in.act(ctx, q)
		}
	}
}

// act does what follows from a question, and says what went wrong: that is about this
// question alone, since the client itself waits for a Log that is away.
func (in *Intake) act(ctx context.Context, q *Question) {
	if err := in.react(ctx, q); err != nil && ctx.Err() == nil {
		in.cfg.Logger.Error("a decision could not be carried back to "+in.agent.Title, "checkpoint", q.ID, "err", err)
		in.notice(q.Session, q.ID, fmt.Sprintf("What was decided about %s in the log could not be carried back: %v. Answer it in %s.", q.ID, err, in.agent.Title))
	}
}

func (in *Intake) own(q *Question) bool { return q.Instance == in.cfg.Instance }

// gone reports whether the run that asked a question is over for certain.
func (in *Intake) gone(q *Question) bool {
	return !in.own(q) && in.cfg.Runs.Of(q.Instance) == source.LifeOver
}

func answered(q *Question) bool {
	return q.Status == string(projection.Approved) || q.Status == string(projection.Rejected)
}

// react does what follows from a question as it stands.
func (in *Intake) react(ctx context.Context, q *Question) error {
	same := in.questions.Same(q)
	switch {
	case in.own(q) && (q.Over || in.told[q.ID]):
	case in.own(q) && answered(q):
		if err := in.give(ctx, q); err != nil {
			return err
		}
	case in.own(q):
		for _, p := range same {
			if p.UsedFor != q.ID && (q.Decided || !in.left(p)) {
				continue
			}
			if done, err := in.carry(ctx, p, q); done || err != nil {
				return err
			}
		}
		if q.Decided {
			return in.give(ctx, q)
		}
	case in.left(q):
		for _, o := range same {
			if in.own(o) && !o.Decided && !in.told[o.ID] {
				_, err := in.carry(ctx, q, o)
				return err
			}
		}
	}
	if !in.own(q) || !answered(q) {
		return nil
	}
	for _, p := range same { // the same question, asked before a crash, needs no answer any more
		if !p.Decided && in.gone(p) {
			if err := in.supersede(p, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// left reports whether a question was decided, and the run that asked ended before it heard.
func (in *Intake) left(q *Question) bool {
	return answered(q) && !q.Over && q.UsedFor == "" && in.gone(q)
}

// give reports to the agent how its question was decided.
func (in *Intake) give(ctx context.Context, q *Question) error {
	cp, err := in.cfg.Client.Checkpoints().Get(ctx, q.ID)
	if err != nil || cp.Decision == nil {
		return err
	}
	if answered(q) {
		if ok, err := in.claim(ctx, cp, q.ID); err != nil || !ok {
			return err
		}
	}
	in.answerTo(q, cp)
	return nil
}

// carry gives the decision of a question that was cut off to the same one asked again.
// It reports false where it is not to be had.
func (in *Intake) carry(ctx context.Context, from, to *Question) (bool, error) {
	was, err := in.cfg.Client.Checkpoints().Get(ctx, from.ID)
	if err != nil {
		return false, err
	}
	now, err := in.cfg.Client.Checkpoints().Get(ctx, to.ID)
	if err != nil {
		return false, err
	}
	if was.Decision == nil || was.StreamID != now.StreamID || !in.questions.SameAction(was.Action, now.Action) || !offers(now, was.Decision) {
		return false, nil
	}
	if ok, err := in.claim(ctx, was, to.ID); err != nil || !ok {
		return false, err
	}
	d := was.Decision
	words := fmt.Sprintf("decided as %s, which asked for the same before %s was interrupted", from.ID, in.agent.Title)
	e := event.Event{
		ID: idOf(to.ID, "carried"), StreamID: now.StreamID, CorrelationID: now.CorrelationID, CausationID: d.EventID, Actor: d.By,
		Metadata: in.marks("carried_from", from.ID),
	}
	if d.Status == projection.Approved {
		e.Type = event.CheckpointApproved
		e.Payload = encode(event.Approved{CheckpointID: to.ID, ApprovedBy: d.By, SelectedOption: d.Option, Answer: d.Answer, Comment: words})
	} else {
		e.Type = event.CheckpointRejected
		e.Payload = encode(event.Rejected{CheckpointID: to.ID, RejectedBy: d.By, Reason: d.Reason})
	}
	err = in.append(e)
	var decided *client.DecidedError
	switch {
	case err == nil:
		return true, nil // follow reads it as the decision of its own question, and gives it to the agent then
	case errors.As(err, &decided) && decided.Checkpoint.Status != projection.Cancelled:
		return false, nil // somebody decided that one itself
	case errors.As(err, &decided), errors.Is(err, client.ErrNotAllowed), errors.Is(err, client.ErrOwnCheckpoint):
		// This key may not decide. The decision is an operator's all the same: the agent gets
		// it, and the question that it answers is withdrawn.
		in.answerTo(to, was)
		if decided != nil {
			return true, nil //nolint:nilerr // cancelled, as it was to be
		}
		return true, in.askToCancel(source.Item{Kind: source.Withdraw, Checkpoint: to.ID, Event: event.Event{
			ID: idOf(to.ID, "carried"), StreamID: now.StreamID, CorrelationID: now.CorrelationID, CausationID: d.EventID, Actor: in.agent.Name,
			Metadata: encode(map[string]string{"carried_from": from.ID}),
			Payload:  encode(event.Cancelled{CheckpointID: to.ID, CancelledBy: in.agent.Name, Reason: words}),
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
func (in *Intake) claim(ctx context.Context, cp projection.Checkpoint, to string) (bool, error) {
	used := source.Used{Checkpoint: cp.ID, GivenTo: to, Status: string(cp.Decision.Status), DecidedBy: cp.Decision.By}
	_, _, err := in.cfg.Client.AppendGuarded(ctx, client.Guard{Name: idOf(in.agent.Name+".use", cp.ID)}, event.Event{
		ID: idOf(cp.ID, "used", to), Type: source.DecisionUsed(in.agent.Name), StreamID: cp.StreamID, CorrelationID: cp.CorrelationID,
		CausationID: cp.Decision.EventID, Actor: in.agent.Name, Payload: encode(used),
		Metadata: in.marks(),
	})
	var conflict *client.ConflictError
	if !errors.As(err, &conflict) {
		return err == nil, err
	}
	var was source.Used
	if w := conflict.Winner; w == nil || w.Type != source.DecisionUsed(in.agent.Name) || json.Unmarshal(w.Payload, &was) != nil {
		return false, nil //nolint:nilerr // somebody else's guard
	}
	return was.GivenTo == to, nil // by the process before, of this same run
}

// supersede withdraws a question that was asked again and has its answer.
func (in *Intake) supersede(p, q *Question) error {
	cp := event.Cancelled{CheckpointID: p.ID, CancelledBy: in.agent.Name, Reason: fmt.Sprintf("asked again as %s, which was %s", q.ID, q.Status)}
	return in.guarded(source.Item{Kind: source.Withdraw, Checkpoint: p.ID, Event: event.Event{
		ID: idOf(p.ID, "superseded"), Type: event.CheckpointCancelled, StreamID: p.Session, Actor: in.agent.Name,
		Metadata: in.marks(), Payload: encode(cp),
	}})
}

// answerTo sends the agent the decision of cp as the answer to q.
func (in *Intake) answerTo(q *Question, cp projection.Checkpoint) {
	in.told[q.ID] = true
	in.cfg.Notify("answer", in.source.Answer(q.Question, cp))
}

// marks are the metadata of what the intake does in this run, with more names and values.
func (in *Intake) marks(more ...string) json.RawMessage {
	m := source.Marked(in.agent.Name, in.cfg.Instance)
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return encode(m)
}

// encode is event.Marshal of what always can be encoded.
func encode(v any) json.RawMessage {
	b, err := event.Marshal(v)
	if err != nil {
		return json.RawMessage("{}")
	}
	return b
}
