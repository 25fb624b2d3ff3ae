package source

import (
	"encoding/json"

	"durablestream/event"
)

// DecisionUsed is the type of the event that says to which question of the agent a
// decision was given. It stands behind a guard of the decided checkpoint's own, so a
// decision is given to one question, once.
func DecisionUsed(agent string) string { return agent + ".decision.used" }

// Used is its payload.
type Used struct {
	Checkpoint string `json:"checkpoint_id"` // that was decided
	GivenTo    string `json:"given_to"`      // the question of the agent that got the answer: the same, or the same asked again
	Status     string `json:"status"`        // "approved" or "rejected"
	DecidedBy  string `json:"decided_by"`
}

// Instance is the run of the agent that an event came from; empty where none is named.
func Instance(agent string, r event.Recorded) string { return mark(r, agent+"_instance") }

// Call is the model's call of a tool of ours by which a checkpoint was asked for; empty
// where it was not.
func Call(agent string, r event.Recorded) string { return mark(r, agent+"_call") }

// Marked is the metadata that names a run of the agent.
func Marked(agent, instance string) map[string]string {
	return map[string]string{agent + "_instance": instance}
}

func mark(r event.Recorded, name string) string {
	var all map[string]json.RawMessage
	var s string
	if len(r.Metadata) == 0 || json.Unmarshal(r.Metadata, &all) != nil || json.Unmarshal(all[name], &s) != nil {
		return ""
	}
	return s
}
