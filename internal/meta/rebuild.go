package meta

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/s2"

	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/wire"
)

// CanRebuild says why Rebuild cannot write the meta group anew from a node's disk; nil: it
// can.
func (s State) CanRebuild(node string) error {
	switch {
	case s.Group == nil:
		return fmt.Errorf("%s does not hold the one raft group of the log: what was acknowledged may be in that alone", filepath.Dir(s.Dir))
	case !s.Group.entries:
		return fmt.Errorf("the raft group in %s is empty", s.Group.Dir)
	case len(s.Group.Peers) < 2 || !slices.Contains(s.Group.Peers, engine.NodeID(node)):
		return fmt.Errorf("%s does not name the members of the log's raft group, of which %s is one", filepath.Join(s.Group.Dir, engine.PeersFile), node)
	}
	return nil
}

// Rebuild writes the meta group of a node anew, where all nodes of the cluster have lost
// it, and moves what is left of it to the directory keep.
//
// Safety. It writes one snapshot, which lists the Log with the raft group that the disk
// holds, and touches neither the copy nor that group. Both stay as they were, so that the
// members decide by the rules of raft what was acknowledged, whichever of them lags in its
// blocks. All nodes write the same snapshot, at the same term and index, since it follows
// from what is the same on all of them; the marks of damaged positions, which may differ, are
// left out, and hosts set them again. A node that should have kept its meta group has a
// newer log and leads, and the others take its list over.
//
// A crash before the last step leaves the node without a meta group, as before, and a
// directory that the next call replaces.
func (s State) Rebuild(store, node, cluster, keep string) error {
	if err := s.CanRebuild(node); err != nil {
		return err
	}
	snapshot, err := s.snapshot(store, cluster)
	if err != nil {
		return err
	}
	made := s.Dir + ".new"
	if err := os.RemoveAll(made); err != nil { // a crash left it
		return err
	}
	if err := os.MkdirAll(filepath.Join(made, engine.SnapshotsDir), 0o700); err != nil {
		return err
	}
	term := binary.LittleEndian.AppendUint64(nil, 1)
	for _, f := range []struct {
		name string
		data []byte
	}{
		{engine.PeersFile, s.peers()},
		{engine.TermFile, term},
		{filepath.Join(engine.SnapshotsDir, fmt.Sprintf(engine.SnapshotName, 1, 1)), snapshot},
	} {
		if err := writeSynced(filepath.Join(made, f.name), f.data); err != nil {
			return err
		}
	}
	if err := errors.Join(syncDir(filepath.Join(made, engine.SnapshotsDir)), syncDir(made)); err != nil {
		return err
	}
	if _, err := os.Lstat(s.Dir); err == nil {
		if err := os.Rename(s.Dir, filepath.Join(keep, engine.MetaGroup)); err != nil {
			return err
		}
	}
	if err := os.Rename(made, s.Dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.Dir))
}

// peers is the file that names the members.
func (s State) peers() []byte {
	peers := slices.Sorted(slices.Values(s.Group.Peers))
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(peers)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(peers)))
	for _, p := range peers {
		b = append(b, p...)
	}
	return binary.LittleEndian.AppendUint16(b, 0)
}

// snapshot is the meta group's state: the Log, on the members of its raft group.
func (s State) snapshot(store, cluster string) ([]byte, error) {
	config, created, err := streamConfig(blocks.Dir(store, s.Group.Account))
	if err != nil {
		return nil, err
	}
	var a assignment
	a.Client.Account, a.Client.Cluster = s.Group.Account, cluster
	a.Created, a.Config = created, config
	a.Group.Name, a.Group.Peers = s.Group.Name, slices.Sorted(slices.Values(s.Group.Peers))
	a.Group.Storage, a.Group.Cluster = "file", cluster
	a.Sync = "$JSC.SYNC." + engine.NodeID(s.Group.Name) // any, but the same on all nodes
	list, err := json.Marshal([]assignment{a})
	if err != nil {
		return nil, err
	}
	peers := s.peers()
	b := binary.LittleEndian.AppendUint64(nil, 1) // term
	b = binary.LittleEndian.AppendUint64(b, 1)    // index
	b = binary.LittleEndian.AppendUint32(b, uint32(len(peers)))
	b = append(b, peers...)
	b = append(b, s2.Encode(nil, list)...)
	return append(b, checksum(engine.MetaGroup, b)...), nil
}

// streamConfig reads the configuration that the engine keeps beside the blocks, without the
// marks of damage.
func streamConfig(dir string) (config, created json.RawMessage, err error) {
	path := filepath.Join(filepath.Dir(dir), engine.ConfigFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("the configuration of the log: %w", err)
	}
	var all map[string]json.RawMessage
	err = json.Unmarshal(raw, &all)
	if name, _ := json.Marshal(wire.LogName); err == nil && !bytes.Equal(all["name"], name) {
		err = errors.New("it is another stream's")
	}
	var marks map[string]string
	if err == nil && all["metadata"] != nil {
		err = json.Unmarshal(all["metadata"], &marks)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	created = all["Created"]
	delete(all, "Created")
	if marks != nil {
		wire.Unmark(marks)
		if all["metadata"], err = json.Marshal(marks); err != nil {
			return nil, nil, err
		}
	}
	config, err = json.Marshal(all)
	return config, created, err
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Keep makes a second copy of the Log's files in the directory to, so that nothing that the
// engine does to the first one can lose it. Blocks that are full, which never change, are
// linked where the file system can; all else is copied.
func (s State) Keep(store, to string) error {
	dir := blocks.Dir(store, s.Group.Account)
	files, err := blocks.List(dir)
	if err != nil {
		return err
	}
	full := map[string]bool{}
	for i, f := range files {
		full[f.Path] = i < len(files)-1
	}
	for _, from := range []string{filepath.Dir(dir), s.Group.Dir} {
		if err := copyTree(from, filepath.Join(to, filepath.Base(from)), full); err != nil {
			return err
		}
	}
	return syncDir(to)
}

func copyTree(from, to string, link map[string]bool) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		switch {
		case e.IsDir():
			err = copyTree(src, dst, link)
		case !e.Type().IsRegular() || strings.HasSuffix(src, ".tmp"):
			continue
		case link[src] && os.Link(src, dst) == nil:
		default:
			err = copyFile(src, dst)
		}
		if err != nil {
			return err
		}
	}
	return syncDir(to)
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from) // a block, 8 MB at most
	if err != nil {
		return err
	}
	return writeSynced(to, b)
}
