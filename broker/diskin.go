package broker

import (
	"path/filepath"

	"durablestream/internal/blocks"
	"durablestream/internal/room"
)

// DiskIn looks at the disk of the host directory dir as a host with the default floor does at
// its start. The caller holds the lock: like a host, DiskIn makes the file of Probe for a
// moment. An error means that the file system gave no answer.
func DiskIn(dir string) (DiskState, error) {
	at := filepath.Join(dir, StoreDir)
	if found, _ := blocks.Find(at); len(found) > 0 { // none: the engine has not begun
		at = filepath.Dir(found[0])
	}
	s := DiskState{Free: -1, Floor: defaultDiskFloor, Inodes: -1}
	r, err := room.Of(at)
	if err != nil {
		return s, err
	}
	s.Free, s.Inodes, s.InodeFloor = r.Free, r.Inodes, r.InodeFloor()
	s.Lack = Lack(r.Lacks(s.Floor, false))
	if s.Lack == LackNothing && r.Free >= room.Size {
		s.Lack = Lack(r.LackOf(room.Probe(at, false)))
	}
	s.Full = s.Lack != LackNothing
	return s, nil
}

// Tell puts what is known of the disk into a host's status.
func (s DiskState) Tell(h *HostStatus) {
	h.DiskFree, h.DiskFloor = s.Free, s.Floor
	h.DiskInodes, h.DiskInodesFloor = s.Inodes, s.InodeFloor
	h.DiskReadOnly = s.Full && s.Lack == LackWriting
	h.DiskFull = s.Full && s.Lack != LackWriting && s.Lack != LackBatch
	if h.DiskFull {
		h.DiskLacks = s.Lack
	}
}
