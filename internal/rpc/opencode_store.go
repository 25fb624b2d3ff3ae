package rpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents/opencode"
)

// fatal reports whether an error ends the process: nothing is lost by that, since what
// has no answer is sent again. The other errors are about one event.
func fatal(err error) bool {
	if err == nil {
		return false
	}
	var invalid *event.InvalidError
	var large *client.TooLargeError
	var refused *client.RefusedError
	return !errors.Is(err, client.ErrDuplicateID) && !errors.As(err, &invalid) && !errors.As(err, &large) && !errors.As(err, &refused)
}

// patiently waits for a disk that is full, or read-only. Everything else that passes, the client
// itself waits for.
func (b *bridge) patiently(do func() error) error {
	for {
		err := do()
		if !errors.Is(err, client.ErrDiskFull) && !errors.Is(err, client.ErrDiskReadOnly) && !errors.Is(err, client.ErrTornBatch) {
			b.warned.Store(false)
			return err
		}
		if !b.warned.Swap(true) {
			b.notice("", "", "The log's disk is full, or read-only. What OpenCode does is kept in memory, and stored as soon as there is space.")
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-b.s.work.Done():
			return err
		}
	}
}

// append stores one event. One whose id is in the Log is stored: by another OpenCode
// of this project, which may have known more of what is about it.
func (b *bridge) append(e event.Event) error {
	err := b.patiently(func() error {
		_, err := b.s.c.Append(b.s.work, e)
		return err
	})
	if errors.Is(err, client.ErrDuplicateID) {
		b.s.cfg.Logger.Debug("an event of OpenCode is in the log in another form", "id", e.ID)
		return nil
	}
	return err
}

// guarded stores what stands behind a guard.
func (b *bridge) guarded(i opencode.Item) error {
	err := b.append(i.Event)
	var decided *client.DecidedError
	var ended *client.EndedError
	var conflict *client.ConflictError
	var held *client.HeldError
	switch i.Kind {
	case opencode.Ask:
		if errors.As(err, &conflict) || err != nil && !fatal(err) {
			b.notice(i.Event.StreamID, i.Checkpoint, fmt.Sprintf("This question of OpenCode is not a checkpoint of the log, and can be answered in OpenCode only: %v", err))
			return b.append(*i.Else)
		}
	case opencode.Decide:
		return b.decide(i, err)
	case opencode.Withdraw:
		switch {
		case errors.As(err, &decided), errors.Is(err, client.ErrUnknownCheckpoint):
			return nil
		case errors.Is(err, client.ErrNotAllowed), errors.Is(err, client.ErrOwnCheckpoint):
			return b.askToCancel(i)
		}
	case opencode.Spawn:
		if errors.As(err, &conflict) { // the same task, told of by another OpenCode
			return nil
		}
	case opencode.End:
		if errors.As(err, &ended) || errors.As(err, &held) || errors.As(err, &conflict) {
			return nil // it is over, or somebody else's now
		}
	}
	return err
}

// decide takes in how a decision that was made in OpenCode was received. What does not
// stand is in the Log as what OpenCode said.
func (b *bridge) decide(i opencode.Item, err error) error {
	var decided *client.DecidedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &decided), errors.Is(err, client.ErrUnknownCheckpoint):
	case errors.Is(err, client.ErrNotAllowed):
		b.notice(i.Event.StreamID, i.Checkpoint, fmt.Sprintf(
			"Your answer counts in OpenCode, and not in the log: the key of this OpenCode has the role %s, and may not decide. Checkpoint %s stays open there. An operator decides it with 'dstream checkpoint approve %s', or start OpenCode with an operator's key.",
			b.s.c.Role(), i.Checkpoint, i.Checkpoint))
	case errors.Is(err, client.ErrOwnCheckpoint), errors.Is(err, client.ErrUnknownOption), errors.Is(err, client.ErrAnswer), !fatal(err):
		b.notice(i.Event.StreamID, i.Checkpoint, fmt.Sprintf("Your answer counts in OpenCode, and not in the log, where checkpoint %s stays open: %v", i.Checkpoint, err))
	default:
		return err
	}
	return b.append(*i.Else)
}

// askToCancel leaves it to the sweeper, and does not wait for it.
func (b *bridge) askToCancel(i opencode.Item) error {
	var why event.Cancelled
	if err := json.Unmarshal(i.Event.Payload, &why); err != nil {
		return err
	}
	e := i.Event
	e.ID, e.Type = e.ID+".asked", event.CheckpointCancelRequested
	e.Payload = encode(event.CancelRequested{CheckpointID: i.Checkpoint, RequestedBy: why.CancelledBy, Reason: why.Reason})
	return b.append(e)
}

// notice tells the human at OpenCode something.
func (b *bridge) notice(session, checkpoint, words string) {
	p := map[string]string{"text": words}
	if session != "" {
		p["sessionID"] = session
	}
	if checkpoint != "" {
		p["requestID"] = checkpoint
	}
	b.s.notify("opencode.notice", p)
}
