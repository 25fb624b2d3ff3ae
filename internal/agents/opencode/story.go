package opencode

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Story tells a human what became of a session, in a few lines. now is the time that
// "ago" counts from.
func (s Session) Story(now time.Time) string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "  %-16s %s\n", what, fmt.Sprintf(format, args...))
	}
	what := "has something left over"
	if s.Interrupted {
		what = "was interrupted"
	}
	fmt.Fprintf(&b, "%s %s: %s %s\n", s.ID, quote(cmp.Or(s.Title, "(no title)"), 80, false), what, ago(now, s.LastAt))
	if s.ParentID != "" {
		line("sub-agent of", "%s", s.ParentID)
	}
	if s.Prompt != "" {
		line("it was asked", "%s", quote(s.Prompt, 300, false))
	}
	if s.Text != "" {
		cut := ""
		if s.Partial {
			cut = " (cut off here)"
		}
		line("its last text", "%s%s", quote(s.Text, 300, true), cut)
	} else if s.Reasoning != "" {
		line("its last thought", "%s", quote(s.Reasoning, 300, true))
	}
	if s.Retry != nil {
		line("it waited", "to call the model again: %s", quote(s.Retry.Message, 200, false))
	}
	if s.Error != "" {
		line("its last error", "%s", s.Error)
	}
	waits := map[string]bool{} // calls that waited for a permission have not begun to work
	for _, q := range slices.Concat(s.Questions, s.Answered) {
		waits[q.CallID] = q.CallID != ""
	}
	for _, u := range s.Tools {
		if waits[u.CallID] {
			line("had to wait", "%s: for an answer, and so nothing of it is known to be done", u.words())
			continue
		}
		line("unknown outcome", "%s, begun %s: it may have done all of its work, some or nothing", u.words(), ago(now, u.StartedAt))
	}
	for _, child := range s.Agents {
		line("sub-agent", "%s did not end", child)
	}
	for _, q := range s.Questions {
		line("open question", "%s %s", q.ID, quote(q.DecisionPoint, 300, false))
	}
	for _, q := range s.Answered {
		line("answered since", "%s %s: %s by %s; the session gets this answer when it asks for the same again", q.ID, quote(q.DecisionPoint, 200, false), q.Status, q.By)
	}
	return b.String()
}

// words name a call and what it was to do.
func (u UnknownTool) words() string {
	var in map[string]any
	if json.Unmarshal(u.State.Input, &in) == nil {
		for _, name := range []string{"command", "filePath", "path", "pattern", "url", "description", "prompt"} {
			if v, ok := in[name].(string); ok && v != "" {
				return u.Tool.Tool + " " + quote(v, 200, false)
			}
		}
	}
	return u.Tool.Tool
}

// Continue is a prompt that tells the model of a session what was interrupted.
func (s Session) Continue() string {
	var b strings.Builder
	b.WriteString("This session was interrupted: the program that you work in was ended in the middle of your work, and has been started again. " +
		"The user asks you to go on. This is what its log knows of where you were.\n")
	if s.Prompt != "" {
		fmt.Fprintf(&b, "\nThe user had asked:\n%s\n", clipped(s.Prompt, 4000, false))
	}
	if s.Text != "" {
		where := "Your last text was"
		if s.Partial {
			where = "You were writing this, and it was cut off at its end"
		}
		fmt.Fprintf(&b, "\n%s:\n%s\n", where, clipped(s.Text, 4000, true))
	}
	waits := map[string]bool{}
	for _, q := range slices.Concat(s.Questions, s.Answered) {
		waits[q.CallID] = q.CallID != ""
	}
	for _, u := range s.Tools {
		if waits[u.CallID] {
			fmt.Fprintf(&b, "\nThe call %s waited for the user's answer, and nothing of it is known to be done. Call it again in just the same way if it is still needed.\n", u.words())
		} else {
			fmt.Fprintf(&b, "\nThe outcome of the call %s is unknown: it may have done all of its work, some of it, or nothing. Look at what is there before you do it again.\n", u.words())
		}
	}
	for _, child := range s.Agents {
		fmt.Fprintf(&b, "\nThe sub-agent in session %s did not end; its result is lost.\n", child)
	}
	b.WriteString("\nGo on from there. Do not do again what is done.")
	return b.String()
}

// quote is text on one line, in quotes; of one that is too long the beginning, or the end.
func quote(text string, most int, end bool) string {
	return fmt.Sprintf("%q", clipped(strings.Join(strings.Fields(text), " "), most, end))
}

func clipped(text string, most int, end bool) string {
	if len(text) <= most {
		return text
	}
	if !end {
		return prefixOf(text, most) + "…"
	}
	text = text[len(text)-most:]
	for !utf8.RuneStart(text[0]) {
		text = text[1:]
	}
	return "…" + text
}

// ago says how long ago a time was, and when.
func ago(now time.Time, ms int64) string {
	at := time.UnixMilli(ms)
	when := at.Format(time.DateTime)
	d := now.Sub(at)
	switch {
	case ms == 0:
		return "at a time that is not known"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago (%s)", max(int(d.Seconds()), 0), when)
	case d < time.Hour:
		return fmt.Sprintf("%d min ago (%s)", int(d.Minutes()), when)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago (%s)", int(d.Hours()), when)
	}
	return fmt.Sprintf("%d days ago (%s)", int(d.Hours()/24), when)
}
