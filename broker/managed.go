package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/meta"
	"durablestream/internal/paths"
)

// ManagedFile is inside Config.Dir, and says that the store is more than a lone host's.
const ManagedFile = "managed"

// Managed is what the file holds: what a host of this store must be started as.
type Managed struct {
	Cluster string `json:"cluster,omitempty"`
	Node    string `json:"node,omitempty"` // of the cluster
	Keys    bool   `json:"keys,omitempty"` // who connects shows a key
}

// ManagedError is a store that this process, as it is configured, must not host: as
// a lone broker it would take a node's store out of its cluster, or let everybody in
// where keys are asked for. It can join the log's host.
type ManagedError struct {
	Dir    string // of the host
	Is     Managed
	Wanted Managed // what this process would have hosted it as
}

func (e *ManagedError) Error() string {
	s := fmt.Sprintf("broker: the store in %s ", e.Dir)
	switch {
	case e.Is.Cluster != "" && e.Wanted.Cluster == "":
		s += fmt.Sprintf("belongs to the node %s of the cluster %s: only 'dstream serve --cluster-name %s --name %s' with its other flags hosts it", e.Is.Node, e.Is.Cluster, e.Is.Cluster, e.Is.Node)
	case e.Is.Cluster != "" && (e.Is.Cluster != e.Wanted.Cluster || e.Is.Node != e.Wanted.Node):
		s += fmt.Sprintf("belongs to the node %s of the cluster %s, not to %s of %s", e.Is.Node, e.Is.Cluster, e.Wanted.Node, e.Wanted.Cluster)
	case e.Is.Keys && !e.Wanted.Keys:
		s += "is hosted with keys: only 'dstream serve --keys FILE' hosts it"
	default:
		s += "cannot be hosted this way"
	}
	return s + "; start that, and join it"
}

// LoneStoreError is the store of a lone host that a node of a cluster was to take
// over: a node's store holds the whole cluster's state, which is not there.
type LoneStoreError struct{ Dir, Cluster string }

func (e *LoneStoreError) Error() string {
	return fmt.Sprintf("broker: the store in %s was a lone host's, and cannot become a node of the cluster %s; "+
		"move the log: start the cluster in other directories, then 'dstream restore --server nats://… --from %s'",
		e.Dir, e.Cluster, filepath.Dir(e.Dir))
}

// UnmarkedError is the store of a node whose mark has gone: a lone host would take it out of
// its cluster, without what only the raft log holds, and under another name the node would not
// be a member.
type UnmarkedError struct{ Dir string }

func (e *UnmarkedError) Error() string {
	return fmt.Sprintf("broker: the store in %s is a node's of a cluster, and the file %s that says of which is missing: "+
		`write it again, {"cluster":"NAME","node":"NAME"} with the node's --cluster-name and --name, and with "keys":true if the cluster has keys`,
		e.Dir, filepath.Join(e.Dir, ManagedFile))
}

func (c Config) managed() Managed {
	m := Managed{Keys: len(c.Keys) > 0}
	if c.Cluster != nil {
		m.Cluster, m.Node = c.Cluster.Name, c.Name
	}
	return m
}

// claim checks that the store may be hosted as it is configured, and leaves the
// mark where it is more than a lone host's. It is called under the lock, before the
// server makes the store: a crash leaves a mark without a store at worst.
func (c Config) claim() error {
	path := filepath.Join(c.Dir, ManagedFile)
	want := c.managed()
	var is Managed
	b, err := paths.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if meta.Exists(filepath.Join(c.Dir, StoreDir)) { // who it was is not known, and a wrong name or a lone host would lose it
			return &UnmarkedError{c.Dir}
		}
	case err != nil:
		return fmt.Errorf("broker: %w", err)
	default:
		if err := json.Unmarshal(b, &is); err != nil {
			return fmt.Errorf("broker: %s cannot be read: %w", path, err)
		}
	}
	if is.Cluster == "" && want.Cluster != "" {
		if _, err := os.Stat(filepath.Join(c.Dir, StoreDir, server.JetStreamStoreDir)); err == nil {
			return &LoneStoreError{c.Dir, want.Cluster}
		}
	} else if is.Cluster != want.Cluster || is.Node != want.Node {
		return &ManagedError{c.Dir, is, want}
	}
	if is.Keys && !want.Keys {
		return &ManagedError{c.Dir, is, want}
	}
	if is == want {
		return nil
	}
	if b, err = json.Marshal(want); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if err := paths.WriteSynced(path, append(b, '\n')); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}
