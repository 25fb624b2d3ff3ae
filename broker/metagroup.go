package broker

import (
	"fmt"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/engine"
	"durablestream/internal/meta"
	"durablestream/internal/roles"
)

// MetaLostError is the store of a node whose copy of the Log the engine would take for an
// orphan, and delete half a minute after the start.
type MetaLostError struct {
	Dir string // of the host
	Why string
}

func (e *MetaLostError) Error() string {
	return fmt.Sprintf("broker: the node in %s does not start, because the engine would delete its copy of the log, or a part of it: %s. "+
		"Nothing was changed. If other nodes of the cluster run, 'dstream --dir %s doctor --fix --server nats://…' (the address of one of them) moves this copy aside, and the node then copies the log from them. "+
		"If all nodes lost their meta group, 'dstream --dir %s doctor --fix --rebuild-meta' on each of them writes it anew",
		e.Dir, e.Why, filepath.Dir(e.Dir), filepath.Dir(e.Dir))
}

// SystemAccount is the account in whose directory the engine keeps the raft groups of a node
// with or without keys.
func SystemAccount(keys bool) string {
	if keys {
		return roles.SystemAccount
	}
	return server.DEFAULT_SYSTEM_ACCOUNT
}

// checkMeta refuses to start a node whose meta group does not list the copy of the Log
// that lies there. It is called before each time that the engine is started.
func (b *Broker) checkMeta() error {
	if b.cfg.Cluster == nil {
		return nil
	}
	if err := engine.Check(server.VERSION); err != nil {
		b.cfg.Logger.Warn("whether the meta group lists this node's copy of the log is not checked", "err", err)
		return nil
	}
	s, err := meta.Look(filepath.Join(b.cfg.Dir, StoreDir), SystemAccount(len(b.cfg.Keys) > 0), b.cfg.Name)
	switch {
	case err != nil:
		return fmt.Errorf("broker: cannot read the meta group: %w", err)
	case s.Lost != "":
		return &MetaLostError{b.cfg.Dir, s.Lost}
	}
	return nil
}
