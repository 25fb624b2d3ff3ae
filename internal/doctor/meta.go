package doctor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/broker"
	"durablestream/internal/engine"
	"durablestream/internal/meta"
)

// lookAtMeta finds out whether the engine would take this node's copy of the log for an
// orphan. A node that runs does not read the files again.
func (d *Examination) lookAtMeta() error {
	if d.held {
		return nil
	}
	if err := engine.Check(server.VERSION); err != nil {
		d.checked("not the meta group: " + err.Error())
		return nil //nolint:nilerr // what was not looked at is told
	}
	s, err := d.readMeta()
	if err != nil {
		return err
	}
	d.checked("the meta group")
	if s.Lost == "" {
		return nil
	}
	d.metaLost = true
	f := Finding{Name: FoundMeta, Sure: true, What: s.Lost + ": the engine would delete this node's copy of the log, or a part of it, half a minute after a start, so the node does not start"}
	if !d.cfg.RebuildMeta {
		f.Repair = "takes this node's copy of the log and what is left of the meta group away; when the node is started again, it copies the log from the others"
		f.Keeps = "both as they are, in durable_stream/" + broker.DamagedDir
		f.Limits = "only while a majority of the nodes holds the log whole without this one, which --server of another node reaches. If all nodes lost their meta group, run --fix --rebuild-meta on each of them instead"
		f.fix = d.dropReplica
		d.add(f)
		return nil
	}
	if err := s.CanRebuild(d.managed.Node); err != nil {
		f.Limits = fmt.Sprintf("the meta group cannot be written anew from what is here: %v. Restore the log into a new cluster from the mirror of the node that has the most lines: 'dstream --server nats://… restore --from DIR'", err)
		d.add(f)
		return nil
	}
	f.Repair = fmt.Sprintf("writes the meta group anew, with the log and its raft group %s in it; when a majority of the nodes is started again, these decide by their raft logs what was acknowledged", s.Group.Name)
	f.Keeps = "the copy of the log stays where it is; a second copy of it, and what is left of the meta group, in durable_stream/" + broker.DamagedDir
	f.Limits = "only for a cluster of which all nodes lost the meta group: do it on each of them before the first one is started"
	f.fix = d.rebuild
	d.add(f)
	return nil
}

func (d *Examination) readMeta() (meta.State, error) {
	return meta.Look(filepath.Join(d.host, broker.StoreDir), broker.SystemAccount(d.managed.Keys), d.managed.Node)
}

// rebuild writes the meta group anew.
//
// A crash before the last step leaves the node as it was, but for a second copy of its log
// in the directory of what was damaged.
func (d *Examination) rebuild(ctx context.Context) (outcome string, err error) {
	if len(d.cfg.Log.Servers) > 0 {
		if log, err := d.cluster(ctx); err == nil {
			return "", errors.Join(errors.New("the cluster has its meta group, and this node would get another one: run it without --rebuild-meta"), log.Close())
		}
	}
	release, err := d.stopHost(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	s, err := d.readMeta()
	if err != nil {
		return "", err
	}
	keep, err := d.aside()
	if err != nil {
		return "", err
	}
	defer removeEmpty(keep)
	store := filepath.Join(d.host, broker.StoreDir)
	if err := s.Keep(store, keep); err != nil {
		return "", fmt.Errorf("the copy of the log cannot be kept a second time in %s: %w", keep, err)
	}
	if err := s.Rebuild(store, d.managed.Node, d.managed.Cluster, keep); err != nil {
		return "", err
	}
	if s, err = d.readMeta(); err == nil && s.Lost != "" {
		err = errors.New(s.Lost)
	}
	return fmt.Sprintf("the meta group was written anew, and a second copy of the log is in %s. Do the same on the other nodes, then start them all: 'dstream status' and 'dstream doctor' compare what they hold", keep), err
}
