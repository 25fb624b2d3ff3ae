package diskwatch

import (
	"fmt"

	"durablestream/internal/logend"
	"durablestream/internal/room"
	"durablestream/internal/wire"
)

// State is the result of a look at the disk.
type State struct {
	Free  int64 // bytes; -1 if it cannot be read
	Floor int64 // bytes
	// Inodes is the number of free inodes; -1 if the file system has no limit or cannot be read.
	Inodes     int64
	InodeFloor int64
	Full       bool      // appends are refused
	Lack       room.Lack // the reason; LackNothing on a node whose engine stepped aside by itself
	Blocked    string    // why the watch does not restart the stuck engine yet; "": no reason is known
}

// In looks at the disk of a directory, as a watch does at its start. An error means that the
// file system gave no answer.
func In(dir string, floor int64) (State, error) {
	s := State{Free: -1, Floor: floor, Inodes: -1}
	r, err := room.Of(dir)
	if err != nil {
		return s, err
	}
	s.Free, s.Inodes, s.InodeFloor = r.Free, r.Inodes, r.InodeFloor()
	s.Lack = r.Lacks(s.Floor, false)
	if s.Lack == room.LackNothing && r.Free >= room.Size {
		s.Lack = r.LackOf(room.Probe(dir, false))
	}
	s.Full = s.Lack != room.LackNothing
	return s, nil
}

// lackOf returns what the disk lacks for the rest of a batch.
func (s State) lackOf(torn *logend.Torn) room.Lack {
	if !torn.ByRoom() || s.Floor < 0 {
		return room.LackBatch
	}
	return room.LackSpace
}

// why explains to a user why appends are refused. torn is the explanation of a part of a batch.
func (s State) why(torn string) string {
	switch s.Lack {
	case room.LackInodes:
		return fmt.Sprintf("the host's file system takes no more files: %d inodes are free, under the floor of %d", s.Inodes, s.InodeFloor)
	case room.LackQuota:
		return "the disk quota of the host's user is used up: a block file of 8 MiB cannot be made"
	case room.LackFileSize:
		return "the host may not write files of 8 MiB: raise its file size limit (ulimit -f) and start it again"
	case room.LackWriting:
		return "the host's disk is read-only"
	case room.LackBatch:
		return torn
	default:
		return "the host's disk is nearly full"
	}
}

// Refusal is the answer to a refused append in the engine's own form, so that every client
// understands it. torn is the explanation of a part of a batch.
func (s State) Refusal(torn string) []byte {
	code := wire.StatusDiskFull
	switch s.Lack {
	case room.LackWriting:
		code = wire.StatusReadOnly
	case room.LackBatch:
		code = wire.StatusTorn
	}
	return fmt.Appendf(nil, `{"stream":%q,"seq":0,"error":{"code":%d,"err_code":%d,"description":%q}}`, wire.LogName, code, wire.CodeDiskFull, s.why(torn))
}
