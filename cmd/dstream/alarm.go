package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"durablestream"
	"durablestream/client"
	"durablestream/internal/console"
	"durablestream/internal/wire"
)

// The alarms. The names are for scripts; docs/operations.md says what to do for
// each.
const (
	alarmStopped    = "host_stopped"      // the host's process is stopped by a signal
	alarmWaiting    = "waiting"           // a process has no log yet
	alarmUnreadable = "log_unreadable"    // the Log does not answer
	alarmMissing    = "missing_positions" // damage
	alarmDamaged    = "store_damaged"     // a host has found damage in its store
	alarmCopy       = "copy_unhealthy"    // the engine does not use a node's copy of the Log
	alarmMirror     = "mirror_stopped"
	alarmMismatch   = "mirror_mismatch" // the mirror's files do not fit the Log
	alarmSweeper    = "sweeper_stopped"
	alarmDisk       = "disk_full"
	alarmReadOnly   = "disk_read_only"
	alarmStuck      = "appends_stuck" // the engine, after a full disk
	alarmTorn       = "batch_torn"    // the log ends with a part of a batch
	alarmLeader     = "no_leader"
	alarmOffline    = "replica_offline"
	alarmBehind     = "replica_behind"
	alarmSilent     = "node_silent" // a node with a replica that does not tell its status
)

// alarm is something that an operator must look at.
type alarm struct {
	Name    string `json:"alarm"`
	Node    string `json:"node,omitempty"` // where, in a cluster
	Message string `json:"message"`        // what is wrong, and what to do
}

// stoppedAlarm is about a host, or a node of a cluster, that a signal has stopped.
func stoppedAlarm(pid int, node bool) alarm {
	words := "the host, process %d, is stopped and holds up everybody: let it go on with 'kill -CONT %d', or end it with 'kill -KILL %d' and another takes over"
	if node {
		words = "this node, process %d, is stopped, and its cluster goes on without it: let it go on with 'kill -CONT %d', or end it with 'kill -KILL %d' and start it again"
	}
	return alarm{Name: alarmStopped, Message: fmt.Sprintf(words, pid, pid, pid)}
}

// hostAlarms are what a host says is wrong with itself.
func hostAlarms(h durablestream.HostStatus) []alarm {
	var alarms []alarm
	if h.MirrorError != "" {
		alarms = append(alarms, alarm{Name: alarmMirror, Message: "the mirror has stopped: " + h.MirrorError})
	}
	if h.SweepError != "" {
		alarms = append(alarms, alarm{Name: alarmSweeper, Message: "the sweeper has stopped: " + h.SweepError})
	}
	if len(h.Damaged) > 0 {
		alarms = append(alarms, alarm{Name: alarmDamaged, Message: fmt.Sprintf(
			"the store is damaged: %s cannot be read, %s; 'dstream doctor' repairs it", console.Count(damagedCount(h), "position"), h.Damaged[0])})
	}
	if h.CopyError != "" {
		alarms = append(alarms, alarm{Name: alarmCopy, Message: copyWords(h)})
	}
	if h.DiskFull {
		alarms = append(alarms, alarm{Name: alarmDisk, Message: fullWords(h)})
	}
	if h.DiskReadOnly {
		alarms = append(alarms, alarm{Name: alarmReadOnly, Message: readOnlyWords})
	}
	if h.Torn != "" {
		alarms = append(alarms, alarm{Name: alarmTorn, Message: "appends are refused: " + h.Torn})
	}
	if h.Stuck != "" {
		alarms = append(alarms, alarm{Name: alarmStuck, Message: stuckWords(h)})
	}
	return alarms
}

// copyWords are about a node's copy of the log that its engine does not use.
func copyWords(h durablestream.HostStatus) string {
	if !h.CopyOut {
		return fmt.Sprintf("the engine does not keep up this node's copy of the log (%s): look at the node's disk; 'dstream doctor' on it compares the copy with those of the others", h.CopyError)
	}
	return fmt.Sprintf("the engine has not opened this node's copy of the log (%s): the files are left as they are, the other nodes go on, and this one copies nothing from them; "+
		"'dstream doctor --fix' on it moves the copy aside, and the node copies the log anew when it is started again", h.CopyError)
}

// stuckWords are about an engine that takes no appends.
func stuckWords(h durablestream.HostStatus) string {
	mend := "the host's watch over the disk mends that within seconds"
	if h.DiskFloor < 0 {
		mend = "the host's watch over the disk is off (--disk-floor): end the host, process " + strconv.Itoa(h.PID) + ", and start it again"
	}
	return fmt.Sprintf("appends get no answer: the engine is stuck, as after a full disk (%s); %s", h.Stuck, mend)
}

// markAlarms are about damage that a host has marked in the Log, and that it has not told
// itself: it did not answer in time, or does not run.
func markAlarms(marks map[string][]wire.Range, told []alarm) []alarm {
	var alarms []alarm
	for node, ranges := range marks {
		if len(ranges) > 0 && !slices.ContainsFunc(told, func(x alarm) bool { return x.Node == node && (x.Name == alarmDamaged || x.Name == alarmMissing) }) {
			alarms = append(alarms, alarm{Name: alarmDamaged, Node: node, Message: fmt.Sprintf(
				"the store is damaged: position %s cannot be read; 'dstream doctor' repairs it", console.List(ranges))})
		}
	}
	slices.SortFunc(alarms, func(a, b alarm) int { return strings.Compare(a.Node, b.Node) })
	return alarms
}

// damagedCount is how many positions a host has found to be damaged.
func damagedCount(h durablestream.HostStatus) (n uint64) {
	for _, d := range h.Damaged {
		n += d.Count()
	}
	return n
}

// logAlarms are what is wrong with the Log itself.
func logAlarms(s client.State) []alarm {
	if s.Missing == 0 {
		return nil
	}
	return []alarm{{Name: alarmMissing, Message: fmt.Sprintf(
		"%s missing between %d and %d: the store is damaged; 'dstream doctor' says what is left, and repairs it",
		console.Count(s.Missing, "position"), s.First, s.Last)}}
}

// replicaAlarms are what is wrong with the copies of the Log. Those that were not
// current at each of the given looks are behind. gone says of a node that it does not
// answer, although others do.
func replicaAlarms(gone func(node string) bool, looks ...client.State) []alarm {
	var alarms []alarm
	last := looks[len(looks)-1]
	if last.Cluster != "" && last.Leader == "" {
		alarms = append(alarms, alarm{Name: alarmLeader, Message: "the log has no leader: nothing is appended until a majority of its nodes is there"})
	}
	for _, r := range last.Replicas {
		switch {
		case offline(r, gone(r.Name)):
			alarms = append(alarms, alarm{Name: alarmOffline, Node: r.Name, Message: fmt.Sprintf(
				"the replica is offline%s: the node is down, stopped by a signal (kill -CONT) or cut off: start it again, or mend its network; while a majority of the nodes is there, nothing is lost and appends go on", heard(r.Seen))})
		case gone(r.Name):
			alarms = append(alarms, alarm{Name: alarmSilent, Node: r.Name, Message: "the node has a replica and does not tell its status: is 'dstream serve' stopped there, or starting?"})
		case behindAt(r.Name, looks):
			alarms = append(alarms, alarm{Name: alarmBehind, Node: r.Name, Message: fmt.Sprintf(
				"the replica is %s behind: it catches up by itself; look again, and at the node's disk and network if it does not", console.Count(r.Lag, "position"))})
		}
	}
	return alarms
}

func behindAt(name string, looks []client.State) bool {
	for _, s := range looks {
		for _, r := range s.Replicas {
			if r.Name == name && r.Current {
				return false
			}
		}
	}
	return true
}

// offline reports that a node has gone. The engine takes its time to say so, and a
// new leader does not say at all when it last heard a node.
func offline(r client.Replica, gone bool) bool {
	const most = 3 * time.Second // a leader and its followers talk each second
	return r.Offline || !r.Current && (gone || r.Seen > most)
}

func heard(ago time.Duration) string {
	if ago <= 0 {
		return ""
	}
	return fmt.Sprintf(" (last heard %s ago)", ago.Round(time.Second))
}
