package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"durablestream"
	"durablestream/client"
	"durablestream/internal/console"
)

// sheet prints lines of a name and what is said of it, one below the other.
type sheet struct {
	out   io.Writer
	width int // columns; 0: lines are not wrapped
	err   error
}

// nameWidth is the column in which the words begin.
const nameWidth = 11

// newSheet wraps at the width of a terminal. What goes elsewhere is not wrapped, so
// that grep finds it.
func newSheet(out io.Writer) *sheet {
	s := &sheet{out: out}
	if console.IsTerminal(out) {
		s.width = console.Width(out)
	}
	return s
}

func (s *sheet) line(name, format string, args ...any) {
	words := strings.Split(printable(fmt.Sprintf(format, args...)), " ")
	line := fmt.Sprintf("%-*s", nameWidth-1, name)
	for n, w := range words {
		if n > 0 && s.width > 0 && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > s.width {
			s.write(line)
			line = strings.Repeat(" ", nameWidth-1)
		}
		line += " " + w
	}
	s.write(line)
}

func (s *sheet) write(line string) {
	if s.err == nil {
		_, s.err = fmt.Fprintln(s.out, strings.TrimRight(line, " "))
	}
}

func (a *statusAnswer) print(out io.Writer) error {
	s := newSheet(out)
	if len(a.Servers) > 0 {
		s.line("servers", "%s", strings.Join(a.Servers, ", "))
	} else {
		s.line("log of", "%s", a.Dir)
	}
	if w := a.Worktree; w != nil && w.Unlinked != "" {
		s.line("work tree", "%s", w.words)
	} else if w != nil {
		s.line("work tree", "this log is the work tree's alone, and goes with it: 'dstream --dir %s import %s' takes it over into the log that the work trees share", w.Shared, a.Dir)
	}
	switch {
	case a.Cluster != "":
		s.line("cluster", "%s: %s, leader %s", a.Cluster, a.nodesWords(), a.leaderWords())
	case a.Host != nil:
		s.line("host", "%s", hostWords(a.Host.HostStatus))
		s.line("endpoint", "%s", a.Host.Endpoint)
	case a.Running && len(a.Servers) == 0:
		s.line("host", "a process has this log and does not answer")
	case len(a.Servers) == 0 && slices.ContainsFunc(a.Alarms, func(x alarm) bool { return x.Name == alarmMismatch }):
		s.line("host", "none is running, and none can start: see the alarm")
	case len(a.Servers) == 0:
		s.line("host", "none is running; 'dstream serve' starts one")
	case !a.Running:
		s.line("host", "none answers")
	default:
		s.line("host", "these servers are not run by dstream: they tell nothing of disk and mirror")
	}
	if words, ok := roleWords[a.Role]; ok {
		s.line("your key", "%s: may %s", a.Role, words)
	}
	if a.Position != nil {
		s.line("position", "%d (%s, %s)", *a.Position, count(*a.Messages, "message"), size(int64(*a.Bytes)))
	}
	if a.Barriers != nil && *a.Barriers > 0 {
		s.line("barriers", "%d stored, for linearizable reads", *a.Barriers)
	}
	if a.Unreadable && len(a.Silent) > 0 {
		s.line("no answer", "%s", strings.Join(a.Silent, ", "))
	}
	for _, n := range a.Nodes {
		n.print(s, a.gone(n.Name), a.Unreadable)
	}
	if a.Host != nil && !a.Stopped {
		s.line("mirror", "%s", mirrorWords(a.Host.HostStatus, a.Lag))
		s.line("sweeper", "%s", sweeperWords(a.Host.HostStatus))
		s.line("disk", "%s", diskWords(a.Host.HostStatus))
		if a.Host.SetAside > 0 {
			s.line("set aside", "%s that are no events", count(a.Host.SetAside, "message"))
		}
		if why := a.Host.Unchecked; why != "" {
			s.line("store", "not checked for damage: %s", oneLine(why, 1000))
		}
	}
	for _, x := range a.SetAside {
		s.line("set aside", "%d: %s", x.Seq, oneLine(x.Reason, 200))
	}
	a.printAlarms(s)
	return s.err
}

var roleWords = map[client.Role]string{
	client.RoleAgent:    "append and read",
	client.RoleOperator: "append, read and decide",
	client.RoleAdmin:    "do everything",
}

func (a *statusAnswer) nodesWords() string {
	if !a.Unreadable {
		return count(len(a.Nodes), "node")
	}
	answering := 0
	for _, n := range a.Nodes {
		if !n.Silent {
			answering++
		}
	}
	return count(answering, "node") + " answering"
}

func (a *statusAnswer) leaderWords() string {
	if a.Leader == "" {
		return "unknown"
	}
	return a.Leader
}

// print says what is known of a node, in three lines at most.
func (n nodeAnswer) print(s *sheet, gone, unreadable bool) {
	replica := "no replica"
	if r := n.Replica; r == nil && unreadable {
		if n.Silent {
			s.line(n.Name, "does NOT ANSWER")
			return
		}
		replica = "answers"
	} else if r != nil {
		switch {
		case r.Leader:
			replica = "leader"
		case offline(*r, gone):
			replica = "OFFLINE" + heard(r.Seen)
		case r.Current:
			replica = "current"
		default:
			replica = count(r.Lag, "position") + " behind"
		}
	}
	if n.Host == nil {
		s.line(n.Name, "%s, tells nothing of itself", replica)
		return
	}
	h := n.Host.HostStatus
	s.line(n.Name, "%s, %s, pid %d, %s, up %s", replica, h.Endpoint, h.PID, h.Version, uptime(h))
	s.line("", "mirror %s, sweeper %s, disk %s", mirrorBrief(h, n.Lag), sweeperWords(h), diskBrief(h))
	if h.Unchecked != "" {
		s.line("", "store not checked for damage: %s", oneLine(h.Unchecked, 1000))
	}
}

func (a *statusAnswer) printAlarms(s *sheet) {
	if len(a.Alarms) == 0 {
		s.line("alarms", "none")
	}
	for _, x := range a.Alarms {
		at := ""
		if x.Node != "" {
			at = x.Node + ": "
		}
		s.line("ALARM", "%s%s", at, oneLine(x.Message, 1000))
	}
}

func hostWords(h durablestream.HostStatus) string {
	since := time.UnixMilli(h.Since).Format("2006-01-02 15:04:05")
	return fmt.Sprintf("pid %d, version %s, since %s (%s)", h.PID, h.Version, since, uptime(h))
}

func uptime(h durablestream.HostStatus) time.Duration {
	return time.Since(time.UnixMilli(h.Since)).Round(time.Second)
}

func mirrorBrief(h durablestream.HostStatus, lag *uint64) string {
	switch {
	case h.MirrorOff:
		return "off"
	case h.MirrorError != "":
		return "STOPPED"
	case lag == nil:
		return fmt.Sprintf("at position %d", h.MirrorSeq)
	case *lag > 0:
		return fmt.Sprintf("%d behind", *lag)
	}
	return "up to date"
}

func mirrorWords(h durablestream.HostStatus, lag *uint64) string {
	switch {
	case h.MirrorOff:
		return "off"
	case lag == nil && h.MirrorError != "":
		return "STOPPED"
	case lag == nil:
		return fmt.Sprintf("%s, at position %d", durablestream.MirrorFile, h.MirrorSeq)
	case h.MirrorError != "":
		return fmt.Sprintf("STOPPED, %s behind", count(*lag, "position"))
	case *lag > 0:
		return fmt.Sprintf("%s, %s behind, %s written", durablestream.MirrorFile, count(*lag, "position"), count(h.MirrorLines, "line"))
	}
	return fmt.Sprintf("%s, up to date, %s written", durablestream.MirrorFile, count(h.MirrorLines, "line"))
}

func sweeperWords(h durablestream.HostStatus) string {
	switch {
	case h.SweeperOff:
		return "off"
	case h.SweepError != "":
		return "STOPPED"
	}
	return "running"
}

// size gives bytes as a person reads them.
func size(n int64) string {
	switch {
	case n < 0:
		return "unknown"
	case n < 10<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 10<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 10<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
