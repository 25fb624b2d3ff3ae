package rpc

import (
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/projection"
)

func (s *server) intentCreate(k *call) (any, error) {
	var p struct {
		ID            string `json:"id"`
		StreamID      string `json:"stream_id"`
		Actor         string `json:"actor"`
		Description   string `json:"description"`
		Agent         string `json:"agent"`
		Prompt        string `json:"prompt"`
		TimeoutMS     int64  `json:"timeout_ms"`
		CorrelationID string `json:"correlation_id"`
		CausationID   string `json:"causation_id"`
		EventID       string `json:"event_id"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	if _, err := event.Millis("timeout_ms", p.TimeoutMS); err != nil {
		return nil, err
	}
	if p.Actor == "" {
		p.Actor = "orchestrator" // as the original
	}
	e := event.Event{StreamID: p.StreamID, CorrelationID: p.CorrelationID}
	s.fill(&e)
	return s.c.Intents().Create(k.ctx, client.IntentSpec{
		ID: p.ID, StreamID: e.StreamID, Actor: p.Actor, Description: p.Description, Agent: p.Agent, Prompt: p.Prompt,
		Timeout:       time.Duration(p.TimeoutMS) * time.Millisecond,
		CorrelationID: e.CorrelationID, CausationID: p.CausationID, EventID: p.EventID,
	})
}

func (s *server) intentGet(k *call) (any, error) { return get(k, s.c.Intents().Get, lateIntent) }

func (s *server) intentList(k *call) (any, error) {
	return list(k, "intents", s.c.Intents().List, lateIntent)
}

func lateIntent(i *projection.Intent) { i.Overdue = i.PastDue(time.Now()) }

type leaseParams struct {
	ID      string         `json:"id"`
	By      string         `json:"by"`
	LeaseMS int64          `json:"lease_ms"`
	Token   event.Sequence `json:"token"`
}

// lease is the answer of intent.claim.
type lease struct {
	Intent string         `json:"intent"`
	Holder string         `json:"holder"`
	Token  event.Sequence `json:"token"`
	Until  int64          `json:"until"` // Unix ms, by this process's clock
}

// intentClaim takes a lease, or renews that of Token.
func (s *server) intentClaim(k *call) (any, error) {
	p := leaseParams{LeaseMS: time.Minute.Milliseconds()}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	length, err := event.Millis("lease_ms", p.LeaseMS)
	if err != nil {
		return nil, err
	}
	var l client.Lease
	if p.Token != 0 {
		l, err = s.c.Intents().Renew(k.ctx, client.Lease{Intent: p.ID, Holder: p.By, Token: p.Token, Length: length})
	} else {
		l, err = s.c.Intents().Claim(k.ctx, p.ID, p.By, length)
	}
	if err != nil {
		return nil, err
	}
	return lease{l.Intent, l.Holder, l.Token, l.Until.UnixMilli()}, nil
}

func (s *server) intentRelease(k *call) (any, error) {
	var p leaseParams
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	if err := s.c.Intents().Release(k.ctx, client.Lease{Intent: p.ID, Holder: p.By, Token: p.Token}); err != nil {
		return nil, err
	}
	return s.c.Intents().Get(k.ctx, p.ID)
}

func (s *server) intentComplete(k *call) (any, error) { return s.endIntent(k, event.AgentCompleted) }
func (s *server) intentFail(k *call) (any, error)     { return s.endIntent(k, event.AgentFailed) }
func (s *server) intentAbort(k *call) (any, error)    { return s.endIntent(k, event.AgentAborted) }

func (s *server) endIntent(k *call, typ string) (any, error) {
	var p struct {
		ID      string         `json:"id"`
		By      string         `json:"by"`
		Token   event.Sequence `json:"token"`
		Result  string         `json:"result"`
		Error   string         `json:"error"`
		Reason  string         `json:"reason"`
		EventID string         `json:"event_id"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	if p.By == "" {
		p.By = "orchestrator"
	}
	end := client.End{By: p.By, Token: p.Token, Result: p.Result, Error: p.Error, Reason: p.Reason, EventID: p.EventID}
	switch typ {
	case event.AgentCompleted:
		return s.c.Intents().Complete(k.ctx, p.ID, end)
	case event.AgentFailed:
		return s.c.Intents().Fail(k.ctx, p.ID, end)
	}
	return s.c.Intents().Abort(k.ctx, p.ID, end)
}
