package status

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/monitor"
)

// stateWait bounds how long the monitor waits for the Log's state. What is left of
// its time is for the question which nodes are there.
const stateWait = 2 * time.Second

// lookAtLog puts the Log into s, or says why it cannot be used: it does not answer,
// has no leader, or only one without a majority.
func (w *Watched) lookAtLog(ctx context.Context, d *durablestream.DurableStream, s *monitor.Snapshot) []Alarm {
	brief, cancel := context.WithTimeout(ctx, stateWait)
	defer cancel()
	state, err := d.Admin().State(brief)
	if err == nil && len(state.Replicas) > 0 {
		names := replicaNames(state)
		w.replicas.Store(&names)
	}
	if err == nil && hasMajority(state) {
		s.Log = &monitor.Log{Position: state.Last, Messages: state.Messages, Missing: state.Missing, Bytes: state.Bytes, Consumers: state.Consumers}
		for _, r := range state.Replicas {
			s.Replicas = append(s.Replicas, monitor.Replica{Name: r.Name, Leader: r.Leader, Current: r.Current, Offline: r.Offline, Lag: r.Lag})
		}
		return nil
	}
	var names []string // that are known, perhaps from an earlier look
	if known := w.replicas.Load(); known != nil {
		names = *known
	}
	here := nodesHere(ctx, d)
	if len(here) > 0 { // or nobody tells, as servers that are not ours
		for _, name := range names {
			s.Replicas = append(s.Replicas, monitor.Replica{Name: name, Offline: !slices.Contains(here, name), Unknown: true})
		}
	}
	away := without(names, here)
	if len(here) == 0 {
		away = nil
	}
	switch {
	case err != nil:
		return []Alarm{{Name: AlarmUnreadable, Message: err.Error() + awayWords(away, names)}}
	case state.Leader == "":
		return []Alarm{{Name: AlarmLeader, Message: "the log has no leader" + awayWords(away, names)}}
	}
	if len(away) == 0 {
		away = offlineNames(state)
	}
	return []Alarm{{Name: AlarmLeader, Message: "the log's leader, " + state.Leader + ", has no majority" + awayWords(away, names)}}
}

// hasMajority reports that the Log has a leader which hears a majority of the
// replicas. A Log that is not a cluster's has one server, which has answered.
func hasMajority(s client.State) bool {
	if s.Cluster == "" {
		return true
	}
	return s.Leader != "" && len(offlineNames(s)) <= (len(s.Replicas)-1)/2
}

func offlineNames(s client.State) (names []string) {
	for _, r := range s.Replicas {
		if offline(r, false) {
			names = append(names, r.Name)
		}
	}
	return names
}

func replicaNames(s client.State) (names []string) {
	for _, r := range s.Replicas {
		names = append(names, r.Name)
	}
	return names
}

// nodesHere are the nodes of ours that answer; none where nobody tells.
func nodesHere(ctx context.Context, d *durablestream.DurableStream) (names []string) {
	for _, b := range d.Admin().Statuses(ctx, nil) {
		var h broker.HostStatus
		if json.Unmarshal(b, &h) == nil && h.Name != "" {
			names = append(names, h.Name)
		}
	}
	return names
}

// without are the names that are not among others.
func without(names, others []string) (rest []string) {
	for _, name := range names {
		if !slices.Contains(others, name) {
			rest = append(rest, name)
		}
	}
	return rest
}

// awayWords end a sentence with which of the nodes are away, and what to do.
func awayWords(away, of []string) string {
	if len(away) == 0 {
		return ": it has one within some seconds if a majority of its nodes is there; if not, start those that are down"
	}
	verb, them := "do", "them"
	if len(away) == 1 {
		verb, them = "does", "it"
	}
	return fmt.Sprintf(": of its nodes (%s) %s %s not answer: down, stopped or cut off. Start %s again; nothing is appended until a majority is there",
		strings.Join(of, ", "), strings.Join(away, " and "), verb, them)
}
