package status

import (
	"encoding/json"

	"durablestream/broker"
	"durablestream/event"
)

// Host is a host's status, of which only what is known is printed.
type Host struct {
	broker.HostStatus
	stopped bool // only what its address file says is known
}

// MarshalJSON leaves out what is not known.
func (h Host) MarshalJSON() ([]byte, error) {
	// These hide the fields of the same names; a nil one is left out.
	v := struct {
		broker.HostStatus
		SyncAlways  *bool           `json:"sync_always,omitempty"`
		DiskFree    *int64          `json:"disk_free,omitempty"`
		DiskFloor   *int64          `json:"disk_floor,omitempty"`
		DiskFull    *bool           `json:"disk_full,omitempty"`
		Inodes      *int64          `json:"disk_inodes,omitempty"`
		InodeFloor  *int64          `json:"disk_inodes_floor,omitempty"`
		ReadOnly    *bool           `json:"disk_read_only,omitempty"`
		MirrorSeq   *event.Sequence `json:"mirror_seq,omitempty"`
		MirrorLines *uint64         `json:"mirror_lines,omitempty"`
		Checked     *event.Time     `json:"checked,omitempty"`
	}{HostStatus: h.HostStatus}
	if h.stopped {
		return json.Marshal(v)
	}
	v.SyncAlways, v.DiskFree, v.DiskFloor, v.Checked = &h.SyncAlways, &h.DiskFree, &h.DiskFloor, &h.Checked
	if h.DiskFloor >= 0 {
		v.DiskFull, v.ReadOnly = &h.DiskFull, &h.DiskReadOnly
		if h.DiskInodesFloor > 0 {
			v.Inodes, v.InodeFloor = &h.DiskInodes, &h.DiskInodesFloor
		}
	}
	if !h.MirrorOff {
		v.MirrorSeq, v.MirrorLines = &h.MirrorSeq, &h.MirrorLines
	}
	return json.Marshal(v)
}
