package rpc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents/opencode"
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
	opencode.Session
	// Life is what is known of the OpenCode that ran it: "over" or "unknown".
	Life  string `json:"life"`
	Story string `json:"story"`
}

// Recover reads the Log for what OpenCode left behind.
func Recover(ctx context.Context, c *client.Client, runs Presence, all bool) (Recovered, error) {
	var f opencode.Fold
	for r, err := range c.Query(ctx, event.Filter{Types: f.Types(), Linearizable: true}) {
		if err != nil {
			return Recovered{}, err
		}
		f.Apply(r)
	}
	out := Recovered{Sessions: []RecoveredSession{}}
	now, lives := time.Now(), map[string]Life{}
	life := func(instance string) Life {
		if _, ok := lives[instance]; !ok {
			lives[instance] = runs.Of(instance)
		}
		return lives[instance]
	}
	for _, s := range f.Recovery().Sessions {
		// What a run that is alive has begun is at work, and not left behind; what an
		// earlier run of the same session left, is.
		if s.Interrupted && life(s.Instance) == LifeOn {
			s.Interrupted = false
			out.AtWork++
		}
		s.Questions = slices.DeleteFunc(s.Questions, func(q opencode.Question) bool { return life(q.Instance) == LifeOn })
		s.Tools = slices.DeleteFunc(s.Tools, func(u opencode.UnknownTool) bool { return life(u.Instance) == LifeOn })
		if !s.Interrupted && len(s.Questions) == 0 && (!all || len(s.Tools) == 0) {
			continue
		}
		r := RecoveredSession{Session: s, Life: "over", Story: s.Story(now)}
		if s.Interrupted && life(s.Instance) == LifeUnknown {
			r.Life = "unknown"
			r.Story += fmt.Sprintf("  %-16s it ran in an OpenCode elsewhere (%s), and may be at work there\n", "not sure", orUnknown(s.Instance))
		}
		out.Sessions = append(out.Sessions, r)
	}
	var stories []string
	for _, s := range out.Sessions {
		stories = append(stories, s.Story)
	}
	out.Story = strings.Join(stories, "\n")
	return out, nil
}

func orUnknown(instance string) string {
	if instance == "" {
		return "its name is not known"
	}
	return instance
}

func (s *server) opencodeRecover(k *call) (any, error) {
	var p listParams
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	return Recover(k.ctx, s.c, s.cfg.Runs, p.All)
}
