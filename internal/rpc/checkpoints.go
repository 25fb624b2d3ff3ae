package rpc

import (
	"encoding/json"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/projection"
)

func (s *server) checkpointRequest(k *call) (any, error) {
	var p struct {
		ID            string          `json:"id"`
		StreamID      string          `json:"stream_id"`
		RequestedBy   string          `json:"requested_by"`
		DecisionPoint string          `json:"decision_point"`
		Options       []event.Option  `json:"options"`
		Schema        json.RawMessage `json:"schema"`
		ExpiresMS     int64           `json:"expires_ms"`
		Action        json.RawMessage `json:"action"`
		CorrelationID string          `json:"correlation_id"`
		CausationID   string          `json:"causation_id"`
		Metadata      json.RawMessage `json:"metadata"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	expires, err := event.Millis("expires_ms", p.ExpiresMS)
	if err != nil {
		return nil, err
	}
	e := event.Event{StreamID: p.StreamID, CorrelationID: p.CorrelationID}
	s.fill(&e)
	return s.c.Checkpoints().Request(k.ctx, client.CheckpointRequest{
		ID: p.ID, StreamID: e.StreamID, RequestedBy: p.RequestedBy, DecisionPoint: p.DecisionPoint,
		Options: p.Options, Schema: p.Schema, ExpiresIn: expires, Action: p.Action,
		CorrelationID: e.CorrelationID, CausationID: p.CausationID, Metadata: p.Metadata,
	})
}

type idParams struct {
	ID        string `json:"id"`
	TimeoutMS int64  `json:"timeout_ms"`
}

func (s *server) checkpointGet(k *call) (any, error) {
	return get(k, s.c.Checkpoints().Get, lateCheckpoint)
}

func (s *server) checkpointList(k *call) (any, error) {
	return list(k, "checkpoints", s.c.Checkpoints().List, lateCheckpoint)
}

func lateCheckpoint(cp *projection.Checkpoint) { cp.Overdue = cp.PastDue(time.Now()) }

func (s *server) checkpointWait(k *call) (any, error) {
	var p idParams
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	ctx, cancel, err := k.within(p.TimeoutMS)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return s.c.Checkpoints().Wait(ctx, p.ID)
}

func (s *server) checkpointApprove(k *call) (any, error) {
	var p struct {
		ID      string          `json:"id"`
		By      string          `json:"by"`
		Option  string          `json:"option"`
		Answer  json.RawMessage `json:"answer"`
		Comment string          `json:"comment"`
		EventID string          `json:"event_id"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	return s.c.Checkpoints().Approve(k.ctx, p.ID, client.Approval{By: p.By, Option: p.Option, Answer: p.Answer, Comment: p.Comment, EventID: p.EventID})
}

type withdrawParams struct {
	ID      string `json:"id"`
	By      string `json:"by"`
	Reason  string `json:"reason"`
	EventID string `json:"event_id"`
}

func (s *server) checkpointReject(k *call) (any, error) {
	var p withdrawParams
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	return s.c.Checkpoints().Reject(k.ctx, p.ID, client.Rejection{By: p.By, Reason: p.Reason, EventID: p.EventID})
}

func (s *server) checkpointCancel(k *call) (any, error) {
	var p withdrawParams
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	return s.c.Checkpoints().Cancel(k.ctx, p.ID, client.Cancellation{By: p.By, Reason: p.Reason, EventID: p.EventID})
}
