package opencode

import (
	"encoding/json"
	"strings"

	"durablestream/event"
)

// Choice is what an approval of that question needs besides who decides: an option of
// its own, or an answer in the form of OpenCode; nothing where there is nothing to choose.
func Choice(q event.Checkpoint) string {
	if len(q.Options) > 0 {
		var others []string
		for _, o := range q.Options[1:] {
			others = append(others, ShellWord(o.ID))
		}
		also := ""
		if len(others) > 0 {
			also = "   # or " + strings.Join(others, ", ")
		}
		return " --option " + ShellWord(q.Options[0].ID) + also
	}
	if len(q.Schema) == 0 {
		return ""
	}
	var asked struct {
		Questions []struct {
			Options []event.Option `json:"options"`
		} `json:"questions"`
	}
	if json.Unmarshal(q.Action, &asked) != nil || len(asked.Questions) == 0 {
		return " --answer JSON"
	}
	answers := make([][]string, len(asked.Questions))
	for i, a := range asked.Questions {
		answers[i] = []string{"your own words"}
		if len(a.Options) > 0 {
			answers[i][0] = a.Options[0].Label
		}
	}
	b, err := json.Marshal(answers)
	if err != nil {
		return " --answer JSON"
	}
	return " --answer " + ShellWord(string(b)) + "   # or other labels, or your own words"
}

// ShellWord is a word of a command line as a shell takes it.
func ShellWord(s string) string {
	plain := s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("_-./:,@%+=", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
