package projection

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"durablestream/event"
)

// Session is the state of a session.
type Session struct {
	ID       string         `json:"id"`
	Parent   string         `json:"parent,omitempty"`
	Children []string       `json:"children,omitempty"`
	Title    string         `json:"title,omitempty"`
	Status   string         `json:"status"` // created, idle, error, compacted, aborted, deleted
	Seq      event.Sequence `json:"seq"`    // of the last event about it
	At       event.Time     `json:"at"`     // its timestamp
	// Gone is the Sequence at which the session was deleted or aborted; 0 if it was not.
	Gone event.Sequence `json:"gone,omitempty"`
}

// Sessions folds the life cycle of sessions.
type Sessions struct{ byID map[string]*Session }

// Needs implements Fold.
func (*Sessions) Needs() Needs { return Needs{Types: []string{"lifecycle.session.*"}} }

// Apply implements Fold. The session is the event's stream.
func (s *Sessions) Apply(e Entry) error {
	r := e.Event
	if r == nil || !event.MatchType("lifecycle.session.*", r.Type) {
		return nil
	}
	var p struct {
		ParentID string `json:"parentID"`
		Title    string `json:"title"`
	}
	if r.Type == event.LifecycleSessionCreated {
		if err := json.Unmarshal(r.Payload, &p); err != nil {
			return fmt.Errorf("%s: the payload is not a session: %w", r.Type, err)
		}
	}
	x := s.session(r.StreamID)
	if p.ParentID != "" && x.Parent == "" && p.ParentID != r.StreamID {
		x.Parent = p.ParentID
		parent := s.session(p.ParentID)
		parent.Children = append(parent.Children, r.StreamID)
	}
	x.Title = cmp.Or(p.Title, x.Title)
	x.Status = r.Type[len("lifecycle.session."):]
	x.Seq, x.At = r.Seq, event.Time{Time: r.Timestamp}
	switch r.Type {
	case event.LifecycleSessionDeleted, event.LifecycleSessionAborted:
		x.Gone = r.Seq
	case event.LifecycleSessionCreated:
		x.Gone = 0
	}
	return nil
}

func (s *Sessions) session(id string) *Session {
	if s.byID == nil {
		s.byID = map[string]*Session{}
	}
	if s.byID[id] == nil {
		s.byID[id] = &Session{ID: id, Status: "unknown"}
	}
	return s.byID[id]
}

// Get returns a session.
func (s *Sessions) Get(id string) (Session, bool) {
	if x := s.byID[id]; x != nil {
		return *x, true
	}
	return Session{}, false
}

// Open lists the sessions that were created and neither deleted nor aborted.
func (s *Sessions) Open() []Session {
	out := []Session{}
	for _, x := range s.byID {
		if x.Gone == 0 && x.Seq != 0 {
			out = append(out, *x)
		}
	}
	slices.SortFunc(out, func(a, b Session) int { return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.ID, b.ID)) })
	return out
}

// Family lists a session and all its descendants, children before their parents. It cuts
// a cycle that the events contain.
func (s *Sessions) Family(id string) []string {
	var out []string
	seen := map[string]bool{}
	var walk func(string)
	walk = func(id string) {
		if seen[id] {
			return
		}
		seen[id] = true
		if x := s.byID[id]; x != nil {
			for _, child := range x.Children {
				walk(child)
			}
		}
		out = append(out, id)
	}
	walk(id)
	return out
}
