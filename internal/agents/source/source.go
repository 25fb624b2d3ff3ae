// Package source is what the intake of internal/agents and the translator of one agent
// know of each other: what a translator is asked, and what it answers with. It is pure,
// and so is each Source: none of them knows a Log, a clock or a connection.
package source

import (
	"encoding/json"
	"time"

	"durablestream/event"
	"durablestream/projection"
)

// Agent is a kind of agent whose events can be taken in.
type Agent struct {
	// Name is one token: the first of the types of event that belong to this agent alone
	// ("opencode.decision.used"), of its methods in rpc ("opencode.event"), and of the
	// names in metadata ("opencode_instance"). It is also the actor of what the intake
	// does on the agent's behalf.
	Name string
	// Title is the name for people: "OpenCode".
	Title string
	// New returns the Source of one run of the agent, which knows nothing yet.
	New func(Config) Source
	// Recovery returns an empty fold of what a crash of the agent leaves behind.
	Recovery func() Recovery[any]
	// FamilyTypes and RunTypes are the types of event that Source.Seed looks at: of those
	// that were stored before the run began, few, since all of the Log is read for them;
	// and of those that were stored since.
	FamilyTypes, RunTypes []string
	// SettledTypes are the types of event that Source.Settled looks at.
	SettledTypes []string
}

// Config says what one run of an agent is.
type Config struct {
	// Instance names the run, and stands in the metadata of each event of it.
	Instance string
	// Limit is the most bytes that a payload may have; what is larger is cut.
	Limit int
}

// Source turns the feed of one run of an agent into what is to be done with the Log. The
// intake makes one call at a time of Seed, Take, Tick and Flush, and calls Action,
// Settled and Answer at any time: these three read nothing that changes.
//
// A Source gives each event an id that follows from what the agent said, so that a feed
// that is taken twice, or by two processes, is stored once.
type Source interface {
	// Seed takes one event of what the Log knows, in its order and before the first Take:
	// of Agent.FamilyTypes from before the run, and of Agent.RunTypes from the run itself.
	// Other events change nothing. The Source goes on where an earlier process of the
	// same run ended.
	Seed(r event.Recorded)
	// Take takes one event of the feed, as the agent sent it. It refuses nothing: what
	// the Source cannot read becomes an event that holds it as it came.
	Take(raw json.RawMessage, now time.Time) Step
	// Tick gives what is due. The intake calls it when the last Step said that
	// something will be.
	Tick(now time.Time) Step
	// Flush gives all that is held back: for the end of the run's feed.
	Flush(now time.Time) Step

	// Action names the action of a checkpoint that this agent asked for: the kind of
	// question, in the agent's words, and a key that is the same for the same exact
	// action asked again, and for no other. The kind is empty where the agent did not
	// ask; the key is empty where the action cannot be told, and is then like no other.
	Action(action json.RawMessage) (kind, key string)
	// Settled names the checkpoint that needs no answer any more, since the agent said
	// so by an event that decides nothing in the Log; empty for none.
	Settled(r event.Recorded) (checkpoint string)
	// Answer is what the agent is told about its question q: the decision of cp, in the
	// agent's own form. cp is the checkpoint of q, or of the same question asked before.
	Answer(q Question, cp projection.Checkpoint) any
}

// Step is what follows from one call of a Source.
type Step struct {
	// Items are to be done in order, and after those of the Step before.
	Items []Item
	// Ticket is set by Take where the event taken is not yet in the Log when Items are: a
	// piece of a text waits for its snapshot. It comes back in Released.
	Ticket int64
	// Released are the tickets of events that are in the Log once Items are; each once.
	Released []int64
	// Due is when Tick is to be called. Zero: nothing is held back.
	Due time.Time
}

// Question is a question of an agent that waits for its answer.
type Question struct {
	ID      string // of its checkpoint, and the agent's own
	Kind    string // by Source.Action
	Session string
}

// Life says whether a run of an agent goes on.
type Life int

// The kinds of Life.
const (
	// LifeUnknown: it ran on another machine, and has left no trace on this one.
	LifeUnknown Life = iota
	LifeOver
	LifeOn
)

// Recovery folds a Log into what a crash of an agent left behind. T is that, as JSON
// gives it to a program.
type Recovery[T any] interface {
	// Types are the types of event that Apply looks at, for a query's filter.
	Types() []string
	// Apply takes one event, in the order of the Log.
	Apply(r event.Recorded)
	// Left is what is left behind as of the events applied, where life says of a run
	// whether it goes on; with all, also what is left of sessions that went on since.
	Left(now time.Time, life func(instance string) Life, all bool) T
}
