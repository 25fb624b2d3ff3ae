package event

import (
	"bytes"
	"encoding/json"
)

// MetadataWorktree is the key of the metadata that names the git work tree which an event
// comes from, where that is a linked one (git worktree add): the work trees of a
// repository share one log. The name is git's own for it, that of the directory in
// .git/worktrees. Events of the main work tree do not have the key.
const MetadataWorktree = "worktree"

// WithWorktree gives metadata, compact JSON or nil, with the name of a work tree, unless
// the key is there already or name is "". What was given is not changed.
func WithWorktree(metadata json.RawMessage, name string) json.RawMessage {
	if name == "" {
		return metadata
	}
	var has map[string]json.RawMessage
	if metadata != nil && json.Unmarshal(metadata, &has) != nil {
		return metadata // it is no object: Validate refuses it
	}
	if _, there := has[MetadataWorktree]; there {
		return metadata
	}
	value, err := json.Marshal(name)
	if err != nil {
		return metadata
	}
	out := append([]byte(nil), bytes.TrimSuffix(metadata, []byte("}"))...)
	switch len(has) {
	case 0:
		out = []byte("{")
	default:
		out = append(out, ',')
	}
	out = append(out, `"`+MetadataWorktree+`":`...)
	return append(append(out, value...), '}')
}
