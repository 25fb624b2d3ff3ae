package opencode

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"durablestream/internal/agents/source"
)

// Recovered is what OpenCode left behind in a Log.
type Recovered struct {
	// Sessions are those that were interrupted or have open questions; with all, those
	// that went on since, too, of which a call has an unknown outcome.
	Sessions []RecoveredSession `json:"sessions"`
	// AtWork counts the sessions that are at work in an OpenCode that is alive.
	AtWork int    `json:"at_work"`
	Story  string `json:"story"` // for a human; empty where there is nothing to tell
}

// RecoveredSession is a session with what is left of it.
type RecoveredSession struct {
	Session
	// Life is what is known of the OpenCode that ran it: "over" or "unknown".
	Life  string `json:"life"`
	Story string `json:"story"`
}

// Left is what is left behind as of the events applied so far, where life says which runs
// are alive.
func (f *Fold) Left(now time.Time, life func(instance string) source.Life, all bool) Recovered {
	out := Recovered{Sessions: []RecoveredSession{}}
	for _, s := range f.Recovery().Sessions {
		// What a run that is alive has begun is at work, and not left behind; what an
		// earlier run of the same session left, is.
		if s.Interrupted && life(s.Instance) == source.LifeOn {
			s.Interrupted = false
			out.AtWork++
		}
		s.Questions = slices.DeleteFunc(s.Questions, func(q Question) bool { return life(q.Instance) == source.LifeOn })
		s.Tools = slices.DeleteFunc(s.Tools, func(u UnknownTool) bool { return life(u.Instance) == source.LifeOn })
		if !s.Interrupted && len(s.Questions) == 0 && (!all || len(s.Tools) == 0) {
			continue
		}
		r := RecoveredSession{Session: s, Life: "over", Story: s.Story(now)}
		if s.Interrupted && life(s.Instance) == source.LifeUnknown {
			r.Life = "unknown"
			r.Story += fmt.Sprintf("  %-16s it ran in an OpenCode elsewhere (%s), and may be at work there\n", "not sure", cmp.Or(s.Instance, "its name is not known"))
		}
		out.Sessions = append(out.Sessions, r)
	}
	var stories []string
	for _, s := range out.Sessions {
		stories = append(stories, s.Story)
	}
	out.Story = strings.Join(stories, "\n")
	return out
}

// anyRecovery is a Fold for a caller that only passes on what is left.
type anyRecovery struct{ *Fold }

func (r anyRecovery) Left(now time.Time, life func(string) source.Life, all bool) any {
	return r.Fold.Left(now, life, all)
}
