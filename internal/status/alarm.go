package status

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/console"
	"durablestream/internal/wire"
)

// The alarms. The names are for scripts; docs/operations.md says what to do for
// each.
const (
	AlarmStopped    = "host_stopped"      // the host's process is stopped by a signal
	AlarmWaiting    = "waiting"           // a process has no log yet
	AlarmUnreadable = "log_unreadable"    // the Log does not answer
	AlarmMissing    = "missing_positions" // damage
	AlarmDamaged    = "store_damaged"     // a host has found damage in its store
	AlarmCopy       = "copy_unhealthy"    // the engine does not use a node's copy of the Log
	AlarmMirror     = "mirror_stopped"
	AlarmMismatch   = "mirror_mismatch" // the mirror's files do not fit the Log
	AlarmSweeper    = "sweeper_stopped"
	AlarmDisk       = "disk_full"
	AlarmReadOnly   = "disk_read_only"
	AlarmStuck      = "appends_stuck" // the engine, after a full disk
	AlarmTorn       = "batch_torn"    // the log ends with a part of a batch
	AlarmLeader     = "no_leader"
	AlarmOffline    = "replica_offline"
	AlarmBehind     = "replica_behind"
	AlarmSilent     = "node_silent" // a node with a replica that does not tell its status
)

// Alarm is something that an operator must look at.
type Alarm struct {
	Name    string `json:"alarm"`
	Node    string `json:"node,omitempty"` // where, in a cluster
	Message string `json:"message"`        // what is wrong, and what to do
}

// stoppedAlarm is about a host, or a node of a cluster, that a signal has stopped.
func stoppedAlarm(pid int, node bool) Alarm {
	words := "the host, process %d, is stopped and holds up everybody: let it go on with 'kill -CONT %d', or end it with 'kill -KILL %d' and another takes over"
	if node {
		words = "this node, process %d, is stopped, and its cluster goes on without it: let it go on with 'kill -CONT %d', or end it with 'kill -KILL %d' and start it again"
	}
	return Alarm{Name: AlarmStopped, Message: fmt.Sprintf(words, pid, pid, pid)}
}

// hostAlarms are what a host says is wrong with itself.
func hostAlarms(h broker.HostStatus) []Alarm {
	var alarms []Alarm
	if h.MirrorError != "" {
		alarms = append(alarms, Alarm{Name: AlarmMirror, Message: "the mirror has stopped: " + h.MirrorError})
	}
	if h.SweeperError != "" {
		alarms = append(alarms, Alarm{Name: AlarmSweeper, Message: "the sweeper has stopped: " + h.SweeperError})
	}
	if len(h.Damaged) > 0 {
		alarms = append(alarms, Alarm{Name: AlarmDamaged, Message: fmt.Sprintf(
			"the store is damaged: %s cannot be read, %s; 'dstream doctor' repairs it", console.Count(damagedCount(h), "position"), h.Damaged[0])})
	}
	if h.CopyError != "" {
		alarms = append(alarms, Alarm{Name: AlarmCopy, Message: CopyWords(h)})
	}
	if h.DiskFull {
		alarms = append(alarms, Alarm{Name: AlarmDisk, Message: FullWords(h)})
	}
	if h.DiskReadOnly {
		alarms = append(alarms, Alarm{Name: AlarmReadOnly, Message: ReadOnlyWords})
	}
	if h.Torn != "" {
		alarms = append(alarms, Alarm{Name: AlarmTorn, Message: "appends are refused: " + h.Torn})
	}
	if h.Stuck != "" {
		alarms = append(alarms, Alarm{Name: AlarmStuck, Message: StuckWords(h)})
	}
	return alarms
}

// CopyWords are about a node's copy of the log that its engine does not use.
func CopyWords(h broker.HostStatus) string {
	if !h.CopyOut {
		return fmt.Sprintf("the engine does not keep up this node's copy of the log (%s): look at the node's disk; 'dstream doctor' on it compares the copy with those of the others", h.CopyError)
	}
	return fmt.Sprintf("the engine has not opened this node's copy of the log (%s): the files are left as they are, the other nodes go on, and this one copies nothing from them; "+
		"'dstream doctor --fix' on it moves the copy aside, and the node copies the log anew when it is started again", h.CopyError)
}

// StuckWords are about an engine that takes no appends.
func StuckWords(h broker.HostStatus) string {
	mend := "the host's watch over the disk mends that within seconds"
	if h.DiskFloor < 0 {
		mend = "the host's watch over the disk is off (--disk-floor): end the host, process " + strconv.Itoa(h.PID) + ", and start it again"
	}
	return fmt.Sprintf("appends get no answer: the engine is stuck, as after a full disk (%s); %s", h.Stuck, mend)
}

// markAlarms are about damage that a host has marked in the Log, and that it has not told
// itself: it did not answer in time, or does not run.
func markAlarms(marks map[string][]wire.Range, told []Alarm) []Alarm {
	var alarms []Alarm
	for node, ranges := range marks {
		if len(ranges) > 0 && !slices.ContainsFunc(told, func(x Alarm) bool { return x.Node == node && (x.Name == AlarmDamaged || x.Name == AlarmMissing) }) {
			alarms = append(alarms, Alarm{Name: AlarmDamaged, Node: node, Message: fmt.Sprintf(
				"the store is damaged: position %s cannot be read; 'dstream doctor' repairs it", console.List(ranges))})
		}
	}
	slices.SortFunc(alarms, func(a, b Alarm) int { return strings.Compare(a.Node, b.Node) })
	return alarms
}

// damagedCount is how many positions a host has found to be damaged.
func damagedCount(h broker.HostStatus) (n uint64) {
	for _, d := range h.Damaged {
		n += d.Count()
	}
	return n
}

// logAlarms are what is wrong with the Log itself.
func logAlarms(s client.State) []Alarm {
	if s.Missing == 0 {
		return nil
	}
	return []Alarm{{Name: AlarmMissing, Message: fmt.Sprintf(
		"%s missing between %d and %d: the store is damaged; 'dstream doctor' says what is left, and repairs it",
		console.Count(s.Missing, "position"), s.First, s.Last)}}
}

// replicaAlarms are what is wrong with the copies of the Log. Those that were not
// current at each of the given looks are behind. gone says of a node that it does not
// answer, although others do.
func replicaAlarms(gone func(node string) bool, looks ...client.State) []Alarm {
	var alarms []Alarm
	last := looks[len(looks)-1]
	if last.Cluster != "" && last.Leader == "" {
		alarms = append(alarms, Alarm{Name: AlarmLeader, Message: "the log has no leader: nothing is appended until a majority of its nodes is there"})
	}
	for _, r := range last.Replicas {
		switch {
		case offline(r, gone(r.Name)):
			alarms = append(alarms, Alarm{Name: AlarmOffline, Node: r.Name, Message: fmt.Sprintf(
				"the replica is offline%s: the node is down, stopped by a signal (kill -CONT) or cut off: start it again, or mend its network; while a majority of the nodes is there, nothing is lost and appends go on", heard(r.Seen))})
		case gone(r.Name):
			alarms = append(alarms, Alarm{Name: AlarmSilent, Node: r.Name, Message: "the node has a replica and does not tell its status: is 'dstream serve' stopped there, or starting?"})
		case behindAt(r.Name, looks):
			alarms = append(alarms, Alarm{Name: AlarmBehind, Node: r.Name, Message: fmt.Sprintf(
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
