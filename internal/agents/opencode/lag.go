package opencode

import "time"

// Held says that the last event that was taken is not in the log with the items given
// out so far, but will be: a piece of a text waits for its snapshot. The ticket comes
// back from Released. So who is asked to make an event durable can tell when it is.
func (t *Translator) Held() (ticket int64, held bool) { return t.clock, t.held }

// Released gives the tickets of events that were held and are in the log with the items
// given out by now; each once.
func (t *Translator) Released() []int64 {
	out := t.released
	t.released = nil
	return out
}

// lag is something that changes faster than it is stored.
type lag interface {
	behind() *lagState
	snapshot(*Translator) // gives out how far it has come
}

type lagState struct {
	dirty  bool
	since  time.Time // the first change that is not stored
	listed bool
	held   []int64 // the tickets of what is not stored
}

// hold keeps a ticket for the event that is being taken until g is stored.
func (t *Translator) hold(g *lagState) {
	g.held, t.held = append(g.held, t.clock), true
}

// saved notes that nothing of g is to be stored any more.
func (t *Translator) saved(g *lagState) {
	g.dirty = false
	t.released = append(t.released, g.held...)
	g.held = nil
}

// changed notes that l is to be stored, at the latest after the interval.
func (t *Translator) changed(l lag) {
	g := l.behind()
	t.hold(g)
	if !g.dirty {
		g.dirty, g.since = true, t.now
	}
	if !g.listed {
		g.listed = true
		t.lagging = append(t.lagging, l)
	}
}

// snapshots gives out what is due, or all.
func (t *Translator) snapshots(all bool) {
	rest := t.lagging[:0]
	for _, l := range t.lagging {
		g := l.behind()
		if g.dirty && (all || t.now.Sub(g.since) >= t.cfg.Interval || t.now.Before(g.since)) {
			l.snapshot(t)
			t.saved(g)
		}
		if g.listed = g.dirty; g.dirty {
			rest = append(rest, l)
		}
	}
	clear(t.lagging[len(rest):])
	t.lagging = rest
}
