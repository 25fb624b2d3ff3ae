package broker

import (
	"fmt"
	"path/filepath"

	"durablestream/internal/copywatch"
)

// CopyState is what is wrong with the engine's use of this node's copy of the Log.
type CopyState struct {
	Why string // the engine's words; "": nothing is wrong
	// Out is true where the engine has not opened the copy at all. It leaves the files as
	// they are, and copies nothing from the other nodes.
	Out bool
}

// Copy is what is wrong with this node's copy of the Log; nothing on a lone host.
func (b *Broker) Copy() CopyState {
	if b.copy == nil {
		return CopyState{}
	}
	return CopyState(b.copy.State())
}

// watchCopy watches over a node's copy. On a lone host Stuck does.
func watchCopy(b *Broker) *copywatch.Watch {
	return copywatch.Start(copywatch.Node{
		Server: b.server, Switching: &b.switching, Account: b.cfg.account(), Logger: b.cfg.Logger,
		Words: func(s copywatch.State) string { return (&CopyError{b.cfg.Dir, CopyState(s)}).Error() },
	})
}

// CopyError is a node's copy of the Log that the engine does not use.
type CopyError struct {
	Dir string // of the host
	CopyState
}

func (e *CopyError) Error() string {
	if !e.Out {
		return fmt.Sprintf("the engine does not keep up this node's copy of the log (%s): look at the node's disk; 'dstream --dir %s doctor' compares the copy with those of the others", e.Why, filepath.Dir(e.Dir))
	}
	return fmt.Sprintf("the engine has not opened this node's copy of the log (%s): the files are left as they are, the other nodes go on, and this one copies nothing from them; "+
		"'dstream --dir %s doctor --fix' moves the copy aside once a majority of the others holds the log whole, and the node copies it anew when it is started again", e.Why, filepath.Dir(e.Dir))
}

// UnreadableCopyError is a node's copy of the Log that cannot be read, so that the node does
// not start: the engine would leave it out.
type UnreadableCopyError struct {
	Dir string // of the host
	Err error
}

// Unwrap gives the error of the file.
func (e *UnreadableCopyError) Unwrap() error { return e.Err }

func (e *UnreadableCopyError) Error() string {
	return fmt.Sprintf("broker: this node's copy of the log cannot be read: %v. Nothing was changed; "+
		"'dstream --dir %s doctor --fix --server nats://…' (the address of another node) moves the copy aside once a majority of the others holds the log whole, and the node copies it anew when it is started again",
		e.Err, filepath.Dir(e.Dir))
}
