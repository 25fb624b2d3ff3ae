package source

import "durablestream/event"

// Kind says what the intake has to do with an Item.
type Kind int

// The kinds of Item.
const (
	// Plain: append Item.Event.
	Plain Kind = iota
	// Ask: Item.Event is the request of checkpoint Item.Checkpoint.
	Ask
	// Decide: Item.Event is a decision of Item.Checkpoint that was made in the agent.
	// Whoever may not decide appends Item.Else instead, and so does who finds that
	// another decision stands.
	Decide
	// Withdraw: Item.Event cancels Item.Checkpoint, because its session is gone. Whoever
	// may not decide asks the sweeper to.
	Withdraw
	// Spawn: Item.Event creates the intent Item.Intent: a sub-agent was started.
	Spawn
	// End: Item.Event ends the intent Item.Intent.
	End
)

var kinds = [...]string{"event", "ask", "decide", "withdraw", "spawn", "end"}

func (k Kind) String() string { return kinds[k] }

// Item is one thing to do.
type Item struct {
	Kind  Kind
	Event event.Event // complete and valid
	// Checkpoint is the id of the checkpoint of an Ask, Decide or Withdraw; it is the
	// agent's own id of its question.
	Checkpoint string
	// Intent is the id of the intent of a Spawn or End.
	Intent string
	// Else is what the agent said as a plain event: to be appended when an Ask or a
	// Decide was refused, so that it is in the log in any case.
	Else *event.Event
	// Stored says that an earlier process of this run has stored the Event of a Plain
	// item: there is nothing to do.
	Stored bool
}
