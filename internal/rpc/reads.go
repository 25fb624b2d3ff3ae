package rpc

import (
	"context"
	"fmt"
	"strconv"

	"durablestream/event"
)

// What one answer of query holds at most; the next begins after its position.
const (
	pageEvents = 1000
	pageBytes  = 8 << 20
)

// filterParams are the members of event.Filter.
type filterParams struct {
	StreamID      string          `json:"stream_id"`
	Types         []string        `json:"types"`
	Actor         string          `json:"actor"`
	CorrelationID string          `json:"correlation_id"`
	Since         int64           `json:"since"`
	Until         int64           `json:"until"`
	Limit         int             `json:"limit"`
	After         *event.Sequence `json:"after"`
}

// filter gives the Filter. A bound that can only be meant in seconds is refused: read as
// milliseconds it is in the first years after 1970, and brings all or nothing.
func (p filterParams) filter() (event.Filter, error) {
	for _, bound := range []struct {
		name string
		at   int64
	}{{"since", p.Since}, {"until", p.Until}} {
		if event.Seconds(bound.at) {
			return event.Filter{}, &event.InvalidError{Field: bound.name, Value: strconv.FormatInt(bound.at, 10), Rule: "must be Unix time in milliseconds; this looks like seconds"}
		}
	}
	f := event.Filter{
		StreamID: p.StreamID, Types: p.Types, Actor: p.Actor, CorrelationID: p.CorrelationID,
		Since: event.Milli(p.Since).Time, Until: event.Milli(p.Until).Time, Limit: p.Limit,
	}
	if p.After != nil {
		f.After = *p.After
	}
	return f, f.Validate()
}

// page is the answer of query.
type page struct {
	Events   []event.Recorded
	Position event.Sequence // ask for more after this
	More     bool
}

func (p page) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"events":[`...)
	for i, r := range p.Events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = r.AppendJSON(dst)
	}
	return fmt.Appendf(dst, `],"position":%d,"more":%t}`, p.Position, p.More)
}

// delivery is the notification of a subscription's event.
type delivery struct {
	subscription string
	event        event.Recorded
}

func (d delivery) appendJSON(dst []byte) []byte {
	dst = event.AppendString(append(dst, `{"subscription":`...), d.subscription)
	dst = d.event.AppendJSON(fmt.Appendf(dst, `,"seq":%d,"event":`, d.event.Seq))
	return append(dst, '}')
}

func (s *server) query(k *call) (any, error) {
	var p struct {
		filterParams
		Last         int  `json:"last"`
		Linearizable bool `json:"linearizable"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	f, err := p.filter()
	if err != nil {
		return nil, err
	}
	f.Last, f.Linearizable = p.Last, p.Linearizable
	if err := f.Validate(); err != nil {
		return nil, err
	}
	if f.Last > pageEvents {
		return nil, &event.InvalidError{Field: "last", Value: fmt.Sprint(f.Last), Rule: fmt.Sprintf("must be at most %d", pageEvents)}
	}
	most := pageEvents
	if f.Limit > 0 && f.Limit < most {
		most = f.Limit
	}
	if f.Last == 0 {
		f.Limit = most + 1 // one more tells whether there is more
	}
	out := page{Events: []event.Recorded{}, Position: f.After}
	size := 0
	for r, err := range s.c.Query(k.ctx, f) {
		if err != nil {
			return nil, err
		}
		size += len(r.Payload) + len(r.Metadata) + 500
		full := len(out.Events) > 0 && size > pageBytes
		if f.Last == 0 && (full || len(out.Events) == most) {
			out.More = true
			break
		}
		out.Events = append(out.Events, r)
		for f.Last > 0 && size > pageBytes && len(out.Events) > 1 { // the newest count
			size -= len(out.Events[0].Payload) + len(out.Events[0].Metadata) + 500
			out.Events, out.More = out.Events[1:], true
		}
		out.Position = r.Seq
	}
	return out, nil
}

func (s *server) subscribe(k *call) (any, error) {
	var p struct {
		filterParams
		Subscription string `json:"subscription"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	f, err := p.filter()
	if err != nil {
		return nil, err
	}
	if p.After == nil {
		if f.After, err = s.c.Position(k.ctx); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(s.waits)
	s.mu.Lock()
	id := p.Subscription
	if id == "" {
		s.subN++
		id = fmt.Sprintf("sub_%d", s.subN)
	}
	_, taken := s.subs[id]
	if !taken {
		s.subs[id] = cancel
	}
	s.mu.Unlock()
	k.then = func() {
		s.apart.Go(func() {
			defer cancel()
			s.follow(ctx, id, f)
		})
	}
	if taken {
		cancel()
		return nil, &event.InvalidError{Field: "subscription", Value: id, Rule: "must not be the name of a subscription that runs"}
	}
	return map[string]any{"subscription": id, "after": f.After}, nil
}

// follow brings a subscription's events, as fast as they are read.
func (s *server) follow(ctx context.Context, id string, f event.Filter) {
	after := f.After
	end := map[string]any{"subscription": id}
	for r, err := range s.c.Subscribe(ctx, f) {
		if err != nil {
			if ctx.Err() == nil {
				end["error"] = toError(err)
			}
			break
		}
		if !s.out.room(ctx, unreadOut) {
			break
		}
		if ctx.Err() != nil {
			break
		}
		after = r.Seq
		s.notify("event", delivery{id, r})
	}
	s.mu.Lock()
	delete(s.subs, id)
	s.mu.Unlock()
	end["after"] = after
	s.notify("subscription.end", end)
}

func (s *server) unsubscribe(k *call) (any, error) {
	var p struct {
		Subscription string `json:"subscription"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	s.mu.Lock()
	cancel, ok := s.subs[p.Subscription]
	s.mu.Unlock()
	if ok {
		cancel()
	}
	return map[string]any{"subscription": p.Subscription, "ended": ok}, nil
}
