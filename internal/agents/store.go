package agents

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents/source"
	"durablestream/internal/wait"
)

// Fatal reports whether an error ends the process: nothing is lost by that, since what
// has no answer is sent again. The other errors are about one event.
func Fatal(err error) bool {
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
func (in *Intake) patiently(do func() error) error {
	for {
		err := do()
		if !errors.Is(err, client.ErrDiskFull) && !errors.Is(err, client.ErrDiskReadOnly) && !errors.Is(err, client.ErrTornBatch) {
			in.warned.Store(false)
			return err
		}
		if !in.warned.Swap(true) {
			in.notice("", "", "The log's disk is full, or read-only. What "+in.agent.Title+" does is kept in memory, and stored as soon as there is space.")
		}
		if wait.For(in.work, 500*time.Millisecond) != nil {
			return err
		}
	}
}

// append stores one event. An event whose id is in the Log is stored already: by another
// run of this project, which may have known more about it.
func (in *Intake) append(e event.Event) error {
	err := in.patiently(func() error {
		_, err := in.cfg.Client.Append(in.work, e)
		return err
	})
	if errors.Is(err, client.ErrDuplicateID) {
		in.cfg.Logger.Debug("an event of "+in.agent.Title+" is in the log in another form", "id", e.ID)
		return nil
	}
	return err
}

// guarded stores what stands behind a guard.
func (in *Intake) guarded(i source.Item) error {
	err := in.append(i.Event)
	var decided *client.DecidedError
	var ended *client.EndedError
	var conflict *client.ConflictError
	var held *client.HeldError
	switch i.Kind {
	case source.Ask:
		if errors.As(err, &conflict) || err != nil && !Fatal(err) {
			in.notice(i.Event.StreamID, i.Checkpoint, fmt.Sprintf("This question of %[1]s is not a checkpoint of the log, and can be answered in %[1]s only: %[2]v", in.agent.Title, err))
			return in.append(*i.Else)
		}
	case source.Decide:
		return in.decide(i, err)
	case source.Withdraw:
		switch {
		case errors.As(err, &decided), errors.Is(err, client.ErrUnknownCheckpoint):
			return nil
		case errors.Is(err, client.ErrNotAllowed), errors.Is(err, client.ErrOwnCheckpoint):
			return in.askToCancel(i)
		}
	case source.Spawn:
		if errors.As(err, &conflict) { // the same task, stored by another run
			return nil
		}
	case source.End:
		if errors.As(err, &ended) || errors.As(err, &held) || errors.As(err, &conflict) {
			return nil // it is over, or somebody else's now
		}
	}
	return err
}

// decide handles the outcome of a decision that was made in the agent. A decision that does
// not stand is in the Log as the agent's words.
func (in *Intake) decide(i source.Item, err error) error {
	var decided *client.DecidedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &decided), errors.Is(err, client.ErrUnknownCheckpoint):
	case errors.Is(err, client.ErrNotAllowed):
		in.notice(i.Event.StreamID, i.Checkpoint, fmt.Sprintf(
			"Your answer counts in %[1]s, and not in the log: the key of this %[1]s has the role %[2]s, and may not decide. Checkpoint %[3]s stays open there. An operator decides it with 'dstream checkpoint approve %[3]s', or start %[1]s with an operator's key.",
			in.agent.Title, in.cfg.Client.Admin().Role(), i.Checkpoint))
	case errors.Is(err, client.ErrOwnCheckpoint), errors.Is(err, client.ErrUnknownOption), errors.Is(err, client.ErrAnswer), !Fatal(err):
		in.notice(i.Event.StreamID, i.Checkpoint, fmt.Sprintf("Your answer counts in %s, and not in the log, where checkpoint %s stays open: %v", in.agent.Title, i.Checkpoint, err))
	default:
		return err
	}
	return in.append(*i.Else)
}

// askToCancel leaves it to the sweeper, and does not wait for it.
func (in *Intake) askToCancel(i source.Item) error {
	var why event.Cancelled
	if err := json.Unmarshal(i.Event.Payload, &why); err != nil {
		return err
	}
	e := i.Event
	e.ID, e.Type = e.ID+".asked", event.CheckpointCancelRequested
	e.Payload = encode(event.CancelRequested{CheckpointID: i.Checkpoint, RequestedBy: why.CancelledBy, Reason: why.Reason})
	return in.append(e)
}

// notice shows the human at the agent a message.
func (in *Intake) notice(session, checkpoint, words string) {
	p := map[string]string{"text": words}
	if session != "" {
		p["sessionID"] = session
	}
	if checkpoint != "" {
		p["requestID"] = checkpoint
	}
	in.cfg.Notify("notice", p)
}
