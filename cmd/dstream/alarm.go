package main

import (
	"fmt"

	"durablestream"
	"durablestream/client"
)

// The alarms. The names are for scripts; docs/operations.md says what to do for
// each.
const (
	alarmStopped    = "host_stopped"      // the host's process is stopped by a signal
	alarmWaiting    = "waiting"           // a process has no log yet
	alarmUnreadable = "log_unreadable"    // the Log does not answer
	alarmMissing    = "missing_positions" // damage
	alarmMirror     = "mirror_stopped"
	alarmMismatch   = "mirror_mismatch" // the mirror's files do not fit the Log
	alarmSweeper    = "sweeper_stopped"
	alarmDisk       = "disk_full"
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

// hostAlarms are what a host says is wrong with itself.
func hostAlarms(h durablestream.HostStatus) []alarm {
	var alarms []alarm
	if h.MirrorError != "" {
		alarms = append(alarms, alarm{Name: alarmMirror, Message: "the mirror has stopped: " + h.MirrorError})
	}
	if h.SweepError != "" {
		alarms = append(alarms, alarm{Name: alarmSweeper, Message: "the sweeper has stopped: " + h.SweepError + "; start the host again"})
	}
	if h.DiskFull {
		alarms = append(alarms, alarm{Name: alarmDisk, Message: fmt.Sprintf(
			"the disk has %s free, under the floor of %s: appends are refused until there is space", size(h.DiskFree), size(h.DiskFloor))})
	}
	return alarms
}

// logAlarms are what is wrong with the Log itself.
func logAlarms(s client.State) []alarm {
	if s.Missing == 0 {
		return nil
	}
	return []alarm{{Name: alarmMissing, Message: fmt.Sprintf(
		"%s missing between %d and %d: the store is damaged; 'dstream mirror verify' says what the mirror still has",
		count(s.Missing, "position"), s.First, s.Last)}}
}
