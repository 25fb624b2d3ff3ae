package durablestream_test

import (
	"fmt"
	"regexp"
	"strings"
)

// A step is one command as a document prints it, with the output that the document shows.
type step struct {
	line     int    // of the command in the document; of the first shown line where command is empty
	terminal string // "" is the reader's first terminal
	command  string // empty: the step shows what the terminal's last command printed meanwhile
	shown    []string
}

// steps returns the steps of the fenced blocks that are marked as ```console, in the
// document's order. ```console NAME is a further terminal, of that name.
func steps(document string) (all []step) {
	terminal, inside := "", false
	var s *step
	for i, line := range strings.Split(document, "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && inside:
			inside = false
		case fence:
			var console bool
			terminal, console = strings.CutPrefix(info, "console")
			terminal, inside, s = strings.TrimSpace(terminal), console, nil
		case !inside:
		case strings.HasPrefix(line, "$ "):
			all = append(all, step{line: i + 1, terminal: terminal, command: line[2:]})
			s = &all[len(all)-1]
		case s != nil && s.shown == nil && strings.HasSuffix(s.command, `\`):
			s.command += "\n" + line
		case s == nil:
			all = append(all, step{line: i + 1, terminal: terminal, shown: []string{line}})
			s = &all[len(all)-1]
		default:
			s.shown = append(s.shown, line)
		}
	}
	for i, s := range all {
		for n := len(s.shown); n > 0 && s.shown[n-1] == ""; n-- { // the blank line before the next command
			all[i].shown = s.shown[:n-1]
		}
	}
	return all
}

// Kinds of text that differ from run to run. What a document shows for one stands for
// what the program printed there. A kind that is named names one thing: wherever the
// document shows it again, the program must print the same again, and a command that has
// it is run with what it stands for.
var kinds = []struct {
	name  string
	text  string
	named bool
}{
	{"hash", `\b[0-9a-f]{64}\b`, true},
	{"id", `\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b`, true},
	{"key", `\bU[A-Z2-7]{55}\b`, true},
	{"port", `\b127\.0\.0\.1:\d+\b`, true},
	{"pid", `\b(?:pid|process) \d+\b`, true},
	{"milliseconds since 1970", `\b1[78]\d{11}\b`, false},
	// With a date or without: the program leaves the date out only if it is today's.
	{"time", `\b(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d(?:\.\d+)?Z?`, false},
	{"age", `\b\d+(?:ms|s|m|h) ago\b`, false},
	{"duration", `\b\d+(?:\.\d+)? (?:µs|ms|s)\b`, false},
	{"uptime", `\(\d+(?:ms|s|m|h)\)`, false},
	{"size", `\b\d+(?:\.\d+)? (?:bytes|[KMG]i?B)`, false},
	{"version", `\b(?:Durable Stream|version) \d+\.\d+\.\d+\b`, false},
	{"column", ` {2,}`, false}, // its width follows the widest cell
}

var varying = func() *regexp.Regexp {
	var either []string
	for _, k := range kinds {
		either = append(either, "("+k.text+")")
	}
	return regexp.MustCompile(strings.Join(either, "|"))
}()

// A piece is literal text (kind -1), or text of a kind.
type piece struct {
	kind int
	text string
}

func pieces(line string) (all []piece) {
	at := 0
	for _, m := range varying.FindAllStringSubmatchIndex(line, -1) {
		all = append(all, piece{-1, line[at:m[0]]})
		for k := range kinds {
			if m[2*k+2] >= 0 {
				all = append(all, piece{k, line[m[0]:m[1]]})
			}
		}
		at = m[1]
	}
	return append(all, piece{-1, line[at:]})
}

// standsFor holds which text of a run each named text of a document stands for.
type standsFor map[string]string

// same reports whether a printed line is the shown one but for what differs from run to
// run, and learns what the named texts of the line stand for.
func (s standsFor) same(shown, printed string) bool {
	a, b := pieces(shown), pieces(printed)
	if len(a) != len(b) {
		return false
	}
	learnt := standsFor{}
	for i := range a {
		switch {
		case a[i].kind != b[i].kind:
			return false
		case a[i].kind < 0:
			if a[i].text != b[i].text {
				return false
			}
		case kinds[a[i].kind].named:
			for _, known := range []standsFor{s, learnt} {
				if printed, ok := known[a[i].text]; ok && printed != b[i].text {
					return false
				}
			}
			learnt[a[i].text] = b[i].text
		}
	}
	for shown, printed := range learnt {
		s[shown] = printed
	}
	return true
}

// inCommand is a command of the document with what its named texts stand for.
func (s standsFor) inCommand(command string) string {
	return word.ReplaceAllStringFunc(command, func(w string) string {
		for _, name := range []string{w, "pid " + w, "process " + w} {
			if printed, ok := s[name]; ok {
				return strings.TrimPrefix(printed, strings.TrimSuffix(name, w))
			}
		}
		return w
	})
}

var word = regexp.MustCompile(`[\w.:-]+`)

// rewritten is what a step printed, with what the document shows wherever that differs
// only from run to run.
func (s standsFor) rewritten(st step, printed []string) (lines []string) {
	for i, line := range printed {
		if i < len(st.shown) && s.same(st.shown[i], line) {
			lines = append(lines, st.shown[i])
			continue
		}
		var b strings.Builder
		for _, p := range pieces(line) {
			for shown, printed := range s {
				if printed == p.text {
					p.text = shown
					break
				}
			}
			if p.kind >= 0 && kinds[p.kind].named && s[p.text] == "" {
				s[p.text] = p.text // the document shows it from now on
			}
			b.WriteString(p.text)
		}
		lines = append(lines, b.String())
	}
	return lines
}

// differ says how what was printed is not what a step shows, or nothing.
func (s standsFor) differ(st step, printed []string) string {
	for i, shown := range st.shown {
		if i >= len(printed) {
			return fmt.Sprintf("line %d shows, but nothing was printed:\n  %s", st.line, shown)
		}
		if !s.same(shown, printed[i]) {
			return fmt.Sprintf("line %d, %q\n  shows:   %s\n  printed: %s", st.line, st.command, shown, printed[i])
		}
	}
	if len(printed) > len(st.shown) {
		return fmt.Sprintf("line %d, %q\n  printed, but not shown: %s", st.line, st.command, printed[len(st.shown)])
	}
	return ""
}
