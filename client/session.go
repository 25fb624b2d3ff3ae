package client

import (
	"context"
	"errors"
	"fmt"

	"durablestream/event"
	"durablestream/projection"
)

// SessionEnd lists all that ended with a session.
type SessionEnd struct {
	Sessions    []string `json:"sessions"`    // ended now, children first
	Intents     []string `json:"intents"`     // aborted
	Checkpoints []string `json:"checkpoints"` // cancelled, or left to the sweeper to cancel
}

// Abort ends a session and all its child sessions, children first. It aborts their
// unfinished intents and cancels their checkpoints. It leaves a checkpoint that by
// requested to the sweeper to cancel.
func (ses Sessions) Abort(ctx context.Context, id, by, reason string) (SessionEnd, error) {
	c := ses.c
	return c.endSession(ctx, event.LifecycleSessionAborted, id, by, reason)
}

// Delete is Abort for a session that is deleted.
func (ses Sessions) Delete(ctx context.Context, id, by, reason string) (SessionEnd, error) {
	c := ses.c
	return c.endSession(ctx, event.LifecycleSessionDeleted, id, by, reason)
}

func (c *Client) endSession(ctx context.Context, typ, id, by, reason string) (SessionEnd, error) {
	end := SessionEnd{Sessions: []string{}, Intents: []string{}, Checkpoints: []string{}}
	if err := event.ValidateStreamID(id); err != nil {
		return end, fmt.Errorf("client: %w", err)
	}
	var sessions projection.Sessions
	var intents projection.Intents
	var checkpoints projection.Checkpoints
	if _, _, err := c.fold(ctx, &sessions, &intents, &checkpoints); err != nil {
		return end, err
	}
	for _, session := range sessions.Family(id) {
		for _, i := range intents.All(true) {
			if i.StreamID != session && i.ParentSessionID != session {
				continue
			}
			_, err := c.Intents().Abort(ctx, i.ID, End{By: by, Reason: reason})
			if err != nil && !errors.Is(err, ErrIntentEnded) {
				return end, err
			}
			end.Intents = append(end.Intents, i.ID)
		}
		for _, cp := range checkpoints.All(true) {
			if cp.StreamID != session {
				continue
			}
			if err := c.withdraw(ctx, cp, by, reason); err != nil {
				return end, err
			}
			end.Checkpoints = append(end.Checkpoints, cp.ID)
		}
		if s, ok := sessions.Get(session); ok && s.Gone != 0 && session != id {
			continue
		}
		payload, err := event.Marshal(map[string]string{"id": session, "by": by, "reason": reason})
		if err == nil {
			_, err = c.Append(ctx, event.Event{Type: typ, StreamID: session, Actor: by, Payload: payload})
		}
		if err != nil {
			return end, err
		}
		end.Sessions = append(end.Sessions, session)
	}
	return end, nil
}

// withdraw cancels a checkpoint, or asks the sweeper to cancel it, and does not wait.
func (c *Client) withdraw(ctx context.Context, cp projection.Checkpoint, by, reason string) error {
	_, err := c.decide(ctx, cp.ID, decision{typ: event.CheckpointCancelled, by: by, payload: event.Cancelled{CheckpointID: cp.ID, CancelledBy: by, Reason: reason}})
	var decided *DecidedError
	switch {
	case errors.As(err, &decided):
		return nil
	case errors.Is(err, ErrOwnCheckpoint), errors.Is(err, ErrNotAllowed):
		payload, err := event.Marshal(event.CancelRequested{CheckpointID: cp.ID, RequestedBy: by, Reason: reason})
		if err == nil {
			_, err = c.Append(ctx, event.Event{Type: event.CheckpointCancelRequested, StreamID: cp.StreamID, Actor: by, Payload: payload})
		}
		return err
	}
	return err
}
