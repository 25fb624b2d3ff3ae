package broker

import (
	"durablestream/event"
)

// HostStatus is what the host says of itself.
type HostStatus struct {
	Name       string     `json:"name,omitempty"`    // of a node
	Cluster    string     `json:"cluster,omitempty"` // that it is a node of
	PID        int        `json:"pid"`
	Since      event.Time `json:"since"`
	Version    string     `json:"version"`
	Endpoint   string     `json:"endpoint"`
	SyncAlways bool       `json:"sync_always"` // acknowledged means on disk; always true
	DiskFree   int64      `json:"disk_free"`   // bytes; -1 unknown
	DiskFloor  int64      `json:"disk_floor"`  // bytes; negative: not watched
	DiskFull   bool       `json:"disk_full"`   // appends are refused
	// DiskLacks says of a full disk what it lacks, see Lack; "": it is not full, or
	// the host is of an older version and means space.
	DiskLacks       Lack  `json:"disk_lacks,omitempty"`
	DiskInodes      int64 `json:"disk_inodes"`       // free; -1: the file system has no limit, or it is not known
	DiskInodesFloor int64 `json:"disk_inodes_floor"` // under which appends are refused
	DiskReadOnly    bool  `json:"disk_read_only"`    // appends are refused, and the disk is not full
	// CopyError is what the engine says is wrong with this node's copy of the log, and CopyOut
	// that it has not opened it at all.
	CopyError    string         `json:"copy_error,omitempty"`
	CopyOut      bool           `json:"copy_out,omitempty"`
	Stuck        string         `json:"stuck,omitempty"` // why the engine takes no appends
	Torn         string         `json:"torn,omitempty"`  // why appends are refused behind a part of a batch
	MirrorSeq    event.Sequence `json:"mirror_seq"`      // the last Sequence the mirror has dealt with
	MirrorLines  uint64         `json:"mirror_lines"`
	MirrorOff    bool           `json:"mirror_off,omitempty"`
	MirrorError  string         `json:"mirror_error,omitempty"`
	SweeperError string         `json:"sweeper_error,omitempty"`
	SweeperOff   bool           `json:"sweeper_off,omitempty"`
	SetAside     uint64         `json:"set_aside,omitempty"`
	// Damaged is what this host has found to be damaged in its store. Checked is the time
	// since which it has read all of it; zero: it has not yet.
	Damaged []Damage   `json:"damaged,omitempty"`
	Checked event.Time `json:"checked"`
	// Unchecked is why this host does not check its store for damage; empty: it does.
	Unchecked string `json:"unchecked,omitempty"`
	// Indexed is the Sequence up to which queries are answered by index files; 0: there
	// are none yet. What is behind it is indexed in memory, or left to the engine.
	Indexed event.Sequence `json:"indexed,omitempty"`
}
