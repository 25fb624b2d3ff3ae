package status

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/console"
)

// Print says it in words, on out.
func (a *Answer) Print(out io.Writer) error {
	s := console.NewSheet(out)
	if len(a.Servers) > 0 {
		s.Line("servers", "%s", strings.Join(a.Servers, ", "))
	} else {
		s.Line("log of", "%s", a.Dir)
	}
	if w := a.Worktree; w != nil && w.Unlinked != "" {
		s.Line("work tree", "%s", w.words)
	} else if w != nil {
		s.Line("work tree", "this log is the work tree's alone, and goes with it: 'dstream --dir %s import %s' takes it over into the log that the work trees share", w.Shared, a.Dir)
	}
	switch {
	case a.Cluster != "":
		s.Line("cluster", "%s: %s, leader %s", a.Cluster, a.nodesWords(), a.leaderWords())
	case a.Host != nil:
		s.Line("host", "%s", hostWords(a.Host.HostStatus))
		s.Line("endpoint", "%s", a.Host.Endpoint)
	case a.Running && len(a.Servers) == 0:
		s.Line("host", "a process has this log and does not answer")
	case len(a.Servers) == 0 && slices.ContainsFunc(a.Alarms, func(x Alarm) bool { return x.Name == AlarmMismatch }):
		s.Line("host", "none is running, and none can start: see the alarm")
	case len(a.Servers) == 0:
		s.Line("host", "none is running; 'dstream serve' starts one")
	case !a.Running:
		s.Line("host", "none answers")
	default:
		s.Line("host", "these servers are not run by dstream: they tell nothing of disk and mirror")
	}
	if words, ok := roleWords[a.Role]; ok {
		s.Line("your key", "%s: may %s", a.Role, words)
	}
	if a.Position != nil {
		s.Line("position", "%d (%s, %s)", *a.Position, console.Count(*a.Messages, "message"), console.Size(int64(*a.Bytes)))
	}
	if a.Barriers != nil && *a.Barriers > 0 {
		s.Line("barriers", "%d stored, for linearizable reads", *a.Barriers)
	}
	if a.Unreadable && len(a.Silent) > 0 {
		s.Line("no answer", "%s", strings.Join(a.Silent, ", "))
	}
	for _, n := range a.Nodes {
		n.print(s, a.gone(n.Name), a.Unreadable)
	}
	if a.Host != nil && !a.Stopped {
		s.Line("mirror", "%s", mirrorWords(a.Host.HostStatus, a.Lag))
		s.Line("sweeper", "%s", sweeperWords(a.Host.HostStatus))
		s.Line("disk", "%s", diskWords(a.Host.HostStatus))
		if a.Host.SetAside > 0 {
			s.Line("set aside", "%s that are no events", console.Count(a.Host.SetAside, "message"))
		}
		if why := a.Host.Unchecked; why != "" {
			s.Line("store", "not checked for damage: %s", console.OneLine(why, 1000))
		}
	}
	for _, x := range a.SetAside {
		s.Line("set aside", "%d: %s", x.Seq, console.OneLine(x.Reason, 200))
	}
	a.printAlarms(s)
	return s.Err()
}

var roleWords = map[client.Role]string{
	client.RoleAgent:    "append and read",
	client.RoleOperator: "append, read and decide",
	client.RoleAdmin:    "do everything",
}

func (a *Answer) nodesWords() string {
	if !a.Unreadable {
		return console.Count(len(a.Nodes), "node")
	}
	answering := 0
	for _, n := range a.Nodes {
		if !n.Silent {
			answering++
		}
	}
	return console.Count(answering, "node") + " answering"
}

func (a *Answer) leaderWords() string {
	if a.Leader == "" {
		return "unknown"
	}
	return a.Leader
}

// print says what is known of a node, in three lines at most.
func (n Node) print(s *console.Sheet, gone, unreadable bool) {
	replica := "no replica"
	if r := n.Replica; r == nil && unreadable {
		if n.Silent {
			s.Line(n.Name, "does NOT ANSWER")
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
			replica = console.Count(r.Lag, "position") + " behind"
		}
	}
	if n.Host == nil {
		s.Line(n.Name, "%s, tells nothing of itself", replica)
		return
	}
	h := n.Host.HostStatus
	s.Line(n.Name, "%s, %s, pid %d, %s, up %s", replica, h.Endpoint, h.PID, h.Version, uptime(h))
	s.Line("", "mirror %s, sweeper %s, disk %s", mirrorBrief(h, n.Lag), sweeperWords(h), diskBrief(h))
	if h.Unchecked != "" {
		s.Line("", "store not checked for damage: %s", console.OneLine(h.Unchecked, 1000))
	}
}

func (a *Answer) printAlarms(s *console.Sheet) {
	if len(a.Alarms) == 0 {
		s.Line("alarms", "none")
	}
	for _, x := range a.Alarms {
		at := ""
		if x.Node != "" {
			at = x.Node + ": "
		}
		s.Line("ALARM", "%s%s", at, console.OneLine(x.Message, 1000))
	}
}

func hostWords(h broker.HostStatus) string {
	since := h.Since.Format("2006-01-02 15:04:05")
	return fmt.Sprintf("pid %d, version %s, since %s (%s)", h.PID, h.Version, since, uptime(h))
}

func uptime(h broker.HostStatus) time.Duration {
	return time.Since(h.Since.Time).Round(time.Second)
}

func mirrorBrief(h broker.HostStatus, lag *uint64) string {
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

func mirrorWords(h broker.HostStatus, lag *uint64) string {
	switch {
	case h.MirrorOff:
		return "off"
	case lag == nil && h.MirrorError != "":
		return "STOPPED"
	case lag == nil:
		return fmt.Sprintf("%s, at position %d", durablestream.MirrorFile, h.MirrorSeq)
	case h.MirrorError != "":
		return fmt.Sprintf("STOPPED, %s behind", console.Count(*lag, "position"))
	case *lag > 0:
		return fmt.Sprintf("%s, %s behind, %s written", durablestream.MirrorFile, console.Count(*lag, "position"), console.Count(h.MirrorLines, "line"))
	}
	return fmt.Sprintf("%s, up to date, %s written", durablestream.MirrorFile, console.Count(h.MirrorLines, "line"))
}

func sweeperWords(h broker.HostStatus) string {
	switch {
	case h.SweeperOff:
		return "off"
	case h.SweeperError != "":
		return "STOPPED"
	}
	return "running"
}
