package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"durablestream/event"
	"durablestream/internal/agents"
	"durablestream/internal/agents/source"
)

// agentMethod finds the method of an agent by its name: <agent>.event takes in one event
// of its feed, <agent>.recover says what a crash of it left behind.
func (s *server) agentMethod(name string) (method, bool) {
	of, what, _ := strings.Cut(name, ".")
	for _, a := range s.cfg.Agents {
		switch {
		case a.Name != of:
		case what == "event":
			return method{do: func(s *server, k *call) (any, error) { return s.agentEvent(a, k) }, feed: true}, true
		case what == "recover":
			return method{do: func(s *server, k *call) (any, error) { return s.agentRecover(a, k) }, reads: true, apart: true, waits: true}, true
		}
	}
	return method{}, false
}

func (s *server) agentEvent(a source.Agent, k *call) (any, error) {
	var p struct {
		Event    json.RawMessage `json:"event"`
		Instance string          `json:"instance"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	if len(p.Event) == 0 {
		return nil, &event.InvalidError{Field: "event", Value: "", Rule: "must be there: the event as " + a.Title + " sent it"}
	}
	in, err := s.intakeOf(k.ctx, a, p.Instance)
	if agents.Fatal(err) {
		k.later = true // never: it is sent again, to the next process
		s.fail(fmt.Errorf("rpc: the log cannot be read for what %s did before: %w", a.Title, err))
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k.later = true
	in.Take(k.ctx, p.Event, func(stored int, err error) {
		if err != nil {
			k.finish(nil, err)
		} else {
			k.finish(map[string]int{"stored": stored}, nil)
		}
	})
	return nil, nil
}

// intakeOf begins the intake with the first event.
func (s *server) intakeOf(ctx context.Context, a source.Agent, instance string) (*agents.Intake, error) {
	switch {
	case s.intake == nil:
	case s.intakeAgent != a.Name:
		return nil, &event.InvalidError{Field: "method", Value: a.Name + ".event", Rule: "must be of the agent of the first event, " + s.intakeAgent + ": start a process for each run of an agent"}
	case s.intakeRun != instance:
		return nil, &event.InvalidError{Field: "instance", Value: instance, Rule: fmt.Sprintf("must be that of the first event, %q: start a process for each run of %s", s.intakeRun, a.Title)}
	default:
		return s.intake, nil
	}
	in, err := agents.Start(ctx, agents.Config{
		Client: s.c, Agent: a, Instance: instance, Runs: s.runs(a), Fail: s.fail, Logger: s.cfg.Logger,
		Notify: func(what string, params any) { s.notify(a.Name+"."+what, params) },
	})
	if err != nil {
		return nil, err
	}
	s.intake, s.intakeAgent, s.intakeRun = in, a.Name, instance
	return in, nil
}

// runs says which runs of an agent are alive.
func (s *server) runs(a source.Agent) agents.Presence {
	if s.cfg.Runs == "" {
		return agents.Presence{}
	}
	return agents.Presence{Dir: filepath.Join(s.cfg.Runs, a.Name)}
}

func (s *server) agentRecover(a source.Agent, k *call) (any, error) {
	var p listParams
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	return agents.Recover(k.ctx, s.c, a.Recovery(), s.runs(a), p.All)
}
