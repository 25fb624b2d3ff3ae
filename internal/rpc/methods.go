package rpc

import (
	"context"
	"encoding/json"
	"time"

	"durablestream/client"
	"durablestream/event"
)

// method is one that can be called.
type method struct {
	do func(*server, *call) (any, error)
	// apart: it begins in its turn, and holds nobody up.
	apart bool
	// waits: it is given up when the input ends.
	waits bool
	// reads: its answer may be large, and changes nothing if it is refused.
	reads bool
	// feed: it does not wait for what came from an agent's feed before it.
	feed bool
}

// methods are all there are, but for those of agents: agentMethod. Filled by init, since rpc's own functions refer to it.
var methods map[string]method

func init() {
	methods = map[string]method{
		"initialize":         {do: (*server).initialize},
		"append":             {do: (*server).append},
		"appendBatch":        {do: (*server).appendBatch},
		"query":              {do: (*server).query, reads: true},
		"subscribe":          {do: (*server).subscribe},
		"unsubscribe":        {do: (*server).unsubscribe},
		"resume":             {do: (*server).resume, reads: true},
		"checkpoint.request": {do: (*server).checkpointRequest},
		"checkpoint.get":     {do: (*server).checkpointGet, reads: true},
		"checkpoint.list":    {do: (*server).checkpointList, reads: true},
		"checkpoint.wait":    {do: (*server).checkpointWait, apart: true, waits: true},
		"checkpoint.approve": {do: (*server).checkpointApprove},
		"checkpoint.reject":  {do: (*server).checkpointReject},
		"checkpoint.cancel":  {do: (*server).checkpointCancel, apart: true},
		"intent.create":      {do: (*server).intentCreate},
		"intent.get":         {do: (*server).intentGet, reads: true},
		"intent.list":        {do: (*server).intentList, reads: true},
		"intent.claim":       {do: (*server).intentClaim},
		"intent.release":     {do: (*server).intentRelease},
		"intent.complete":    {do: (*server).intentComplete},
		"intent.fail":        {do: (*server).intentFail},
		"intent.abort":       {do: (*server).intentAbort},
		"session.abort":      {do: (*server).sessionAbort},
		"session.delete":     {do: (*server).sessionDelete},
		"shutdown":           {do: (*server).shutDown},
	}
}

func (s *server) initialize(k *call) (any, error) {
	var p struct {
		StreamID      string `json:"stream_id"`
		CorrelationID string `json:"correlation_id"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	if p.StreamID != "" {
		if err := event.ValidateStreamID(p.StreamID); err != nil {
			return nil, err
		}
	}
	position, err := s.c.Position(k.ctx)
	if err != nil {
		return nil, err
	}
	if p.CorrelationID != "" {
		if s.streamID == s.correlationID {
			s.streamID = p.CorrelationID
		}
		s.correlationID = p.CorrelationID
	}
	if p.StreamID != "" {
		s.streamID = p.StreamID
	}
	about := map[string]any{
		"position": position, "stream_id": s.streamID, "correlation_id": s.correlationID,
		"role": s.c.Admin().Role(), "max_line": MaxLine, "max_events": pageEvents,
	}
	for name, v := range s.cfg.About {
		about[name] = v
	}
	return about, nil
}

// receipt says what was recorded: all but what the caller has.
type receipt struct {
	Seq           event.Sequence `json:"seq"`
	ID            string         `json:"id"`
	Type          string         `json:"type"`
	StreamID      string         `json:"stream_id"`
	CorrelationID string         `json:"correlation_id"`
	Timestamp     int64          `json:"timestamp"`
	Guard         string         `json:"guard,omitempty"`
}

func receiptOf(r event.Recorded) receipt {
	return receipt{r.Seq, r.ID, r.Type, r.StreamID, r.CorrelationID, r.Milli(), r.Guard}
}

func (s *server) append(k *call) (any, error) {
	var p struct {
		Event     json.RawMessage `json:"event"`
		TimeoutMS int64           `json:"timeout_ms"`
		SentAt    int64           `json:"sent_at"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	e, err := s.event("event", p.Event)
	if err != nil {
		return nil, err
	}
	ctx, cancel, err := k.within(p.TimeoutMS)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if r, err := s.before(ctx, e, p.SentAt); err != nil || r != nil {
		return r, err
	}
	r, err := s.c.Append(ctx, e)
	if err != nil {
		return nil, err
	}
	return receiptOf(r), nil
}

// event reads an event to append, and fills in the session's defaults.
func (s *server) event(field string, raw json.RawMessage) (event.Event, error) {
	if len(raw) == 0 {
		return event.Event{}, &event.InvalidError{Field: field, Value: "", Rule: "must be there: an object with type, stream_id, actor and payload"}
	}
	e, err := event.Decode(raw)
	if err != nil {
		return e, err
	}
	s.fill(&e)
	return e, nil
}

func (s *server) fill(e *event.Event) {
	if e.StreamID == "" {
		e.StreamID = s.streamID
	}
	if e.CorrelationID == "" {
		e.CorrelationID = s.correlationID
	}
}

// within bounds one call; 0 is no bound of its own.
func (k *call) within(ms int64) (context.Context, context.CancelFunc, error) {
	limit, err := event.Millis("timeout_ms", ms)
	if err != nil {
		return nil, nil, err
	}
	if limit == 0 {
		return k.ctx, func() {}, nil
	}
	ctx, cancel := context.WithTimeout(k.ctx, limit)
	return ctx, cancel, nil
}

// forgotten is the age from which the engine may not know an id any more: half of the
// least duplicate window.
const forgotten = 5 * time.Minute

// before looks for an event that an earlier session was sent, so long ago that the
// engine may have forgotten its id. That session is over, so it cannot come after the
// look.
func (s *server) before(ctx context.Context, e event.Event, sentAt int64) (any, error) {
	if sentAt <= 0 || e.ID == "" || e.Type == "" || time.Since(time.UnixMilli(sentAt)) < forgotten {
		return nil, nil
	}
	for r, err := range s.c.Query(ctx, event.Filter{StreamID: e.StreamID, Types: []string{e.Type}, Since: e.Timestamp}) {
		if err != nil {
			return nil, err
		}
		if r.ID == e.ID {
			return receiptOf(r), nil
		}
	}
	return nil, nil
}

func (s *server) appendBatch(k *call) (any, error) {
	var p struct {
		Events    []json.RawMessage `json:"events"`
		TimeoutMS int64             `json:"timeout_ms"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	events := make([]event.Event, len(p.Events))
	for i, raw := range p.Events {
		var err error
		if events[i], err = s.event("events["+event.Sequence(i).String()+"]", raw); err != nil {
			return nil, err
		}
	}
	ctx, cancel, err := k.within(p.TimeoutMS)
	if err != nil {
		return nil, err
	}
	defer cancel()
	rs, err := s.c.AppendBatch(ctx, events)
	if err != nil {
		return nil, err
	}
	receipts := make([]receipt, len(rs))
	for i, r := range rs {
		receipts[i] = receiptOf(r)
	}
	return map[string]any{"events": receipts}, nil
}

func (s *server) resume(k *call) (any, error) {
	if err := decode(k.params, &struct{}{}); err != nil {
		return nil, err
	}
	r, err := s.c.Resume(k.ctx)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (s *server) sessionAbort(k *call) (any, error)  { return endSession(k, s.c.Sessions().Abort) }
func (s *server) sessionDelete(k *call) (any, error) { return endSession(k, s.c.Sessions().Delete) }

func endSession(k *call, end func(ctx context.Context, id, by, reason string) (client.SessionEnd, error)) (any, error) {
	var p struct {
		ID     string `json:"id"`
		By     string `json:"by"`
		Reason string `json:"reason"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	return end(k.ctx, p.ID, p.By, p.Reason)
}

func (s *server) shutDown(k *call) (any, error) {
	if err := decode(k.params, &struct{}{}); err != nil {
		return nil, err
	}
	if s.intake != nil {
		if err := s.intake.End(k.ctx); err != nil {
			return nil, err
		}
	}
	s.shutdown = true
	return struct{}{}, nil
}
