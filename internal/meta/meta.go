// Package meta reads, without the engine, what a node's disk says about the JetStream meta
// group: the raft group whose log lists the streams of a cluster.
//
// # Why
//
// The engine takes a stream that lies on a node's disk, and that the meta group does not
// list, for an orphan, and deletes it 30 s after the start (nats-server 2.15.3,
// jetstream_cluster.go, checkForOrphans). A node that finds no state of its meta group
// begins an empty one. So after all nodes lost theirs, the cluster deletes all copies of
// the Log. Where only some nodes lost theirs, they receive the list from the others, but
// replay it as news: a stream that was deleted and created again is deleted again.
//
// # The files
//
// A raft group is a directory <store>/jetstream/<system account>/_js_/<group>:
//
//	peers.idx    size of the group, and its members
//	tav.idx      term, and vote in it
//	snapshots/   snap.<term>.<index>: the state up to an index, with a checksum
//	msgs/        the log behind that: blocks as package blocks describes them, in which the
//	             Sequence of a record is the index of the raft entry
//
// The state of the meta group is the list of assignments, as JSON compressed with S2. An
// entry of its log is an operation and one assignment.
package meta

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/minio/highwayhash"

	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/paths"
	"durablestream/internal/wire"
)

const idLen, sumLen = engine.NodeIDSize, engine.SumSize

// Group is the raft group of the Log, as its directory on a node's disk says.
type Group struct {
	Dir     string
	Name    string
	Account string
	Peers   []string // ids of its members
	entries bool     // it holds a log or a snapshot
	stores  bool     // its log holds messages
}

// State is what the disk of a node says.
type State struct {
	Dir string // of the meta group
	// Holds is true where the node has a copy of the Log that is not empty, in its blocks or
	// in the raft log.
	Holds bool
	// Lost is why the engine would take this copy for an orphan, or would lose a part of
	// it: the meta group's state is missing, cannot be read, or does not list it; "" else.
	Lost string
	// Group is the raft group of the Log; nil where the node has none, or several.
	Group *Group

	copies []string // accounts that have blocks of the Log
}

// assignment is one stream in the list of the meta group.
type assignment struct {
	Client struct {
		Account string `json:"acc,omitempty"`
		Service string `json:"svc,omitempty"`
		Cluster string `json:"cluster,omitempty"`
	} `json:"client"`
	Created json.RawMessage `json:"created"`
	Config  json.RawMessage `json:"stream"`
	Group   struct {
		Name    string   `json:"name"`
		Peers   []string `json:"peers"`
		Storage string   `json:"store"`
		Cluster string   `json:"cluster,omitempty"`
	} `json:"group"`
	Sync string `json:"sync"`
}

func (a assignment) account() string {
	if a.Client.Service != "" {
		return a.Client.Service
	}
	return a.Client.Account
}

func (a assignment) stream() string {
	var cfg struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(a.Config, &cfg) // else it is no stream of ours
	return cfg.Name
}

// Exists reports whether a store was a node's: a lone host has no meta group.
func Exists(store string) bool {
	found, _ := blocks.Glob(store, filepath.Join(engine.StoreDir, "*", engine.RaftDir, engine.MetaGroup)) // the pattern is right
	return len(found) > 0
}

// Look reads the store of the node of that name. system is the system account of its server.
func Look(store, system, node string) (State, error) {
	groups := filepath.Join(store, engine.StoreDir, system, engine.RaftDir)
	s := State{Dir: filepath.Join(groups, engine.MetaGroup)}
	if err := s.lookForCopies(store); err != nil {
		return s, err
	}
	found, err := logGroups(groups)
	if err != nil {
		return s, err
	}
	for _, g := range found {
		s.Holds = s.Holds || g.stores
	}
	if len(found) == 1 {
		s.Group = &found[0]
	}
	if !s.Holds {
		return s, nil // nothing can be lost
	}
	list, err := s.list()
	if err != nil {
		s.Lost = err.Error()
		return s, nil //nolint:nilerr // which is the answer
	}
	s.Lost = s.missing(list, found, engine.NodeID(node))
	return s, nil
}

// lookForCopies finds blocks of the Log.
func (s *State) lookForCopies(store string) error {
	dirs, err := blocks.Find(store)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			info, err := e.Info()
			if strings.HasSuffix(e.Name(), engine.BlockSuffix) && (err != nil || info.Size() > 0) {
				s.Holds = true
				s.copies = append(s.copies, filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(dir)))))
				break
			}
		}
	}
	return nil
}

// missing says what the meta group's list lacks for this node's copies; "": nothing.
func (s *State) missing(list map[string]assignment, groups []Group, id string) string {
	for _, account := range s.copies {
		a, ok := list[account]
		switch {
		case !ok:
			return fmt.Sprintf("the meta group in %s does not list the log of the account %s", s.Dir, account)
		case len(a.Group.Peers) < 2 || !slices.Contains(a.Group.Peers, id):
			continue // it has no raft group here
		}
		have := false
		for _, g := range groups {
			have = have || g.Name == a.Group.Name && g.entries
		}
		if !have {
			return fmt.Sprintf("the raft group %s of the log, which holds what the blocks may lack, is not in %s", a.Group.Name, filepath.Dir(s.Dir))
		}
	}
	for _, g := range groups {
		if a, ok := list[g.Account]; g.stores && (!ok || a.Group.Name != g.Name) {
			return fmt.Sprintf("the meta group in %s does not list the raft group %s of the log", s.Dir, g.Name)
		}
	}
	return ""
}

// list is the assignment of the Log in each account, as the meta group's files have it.
func (s *State) list() (map[string]assignment, error) {
	if _, err := readPeers(s.Dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("it is not there")
		}
		return nil, fmt.Errorf("the meta group in %s cannot be used: %w", s.Dir, err)
	}
	list := map[string]assignment{}
	index, data, err := newestSnapshot(s.Dir, engine.MetaGroup)
	if err == nil && len(data) > 0 {
		err = decodeList(data, list)
	}
	if err != nil {
		return nil, fmt.Errorf("the meta group in %s cannot be used: %w", s.Dir, err)
	}
	_, err = readLog(s.Dir, engine.MetaGroup, index, func(entry []byte) error {
		var a assignment
		if len(entry) == 0 || json.Unmarshal(entry[1:], &a) != nil || a.stream() != wire.LogName {
			return nil //nolint:nilerr // it is about something else
		}
		switch entry[0] {
		case engine.OpAssignStream, engine.OpUpdateStream:
			list[a.account()] = a
		case engine.OpRemoveStream:
			delete(list, a.account())
		}
		return nil
	})
	return list, err
}

func decodeList(data []byte, into map[string]assignment) error {
	raw, err := s2.Decode(nil, data)
	if err != nil {
		return fmt.Errorf("its snapshot: %w", err)
	}
	var all []assignment
	if err := json.Unmarshal(raw, &all); err != nil {
		return fmt.Errorf("its snapshot: %w", err)
	}
	for _, a := range all {
		if a.stream() == wire.LogName {
			into[a.account()] = a
		}
	}
	return nil
}

// logGroups are the raft groups of the Log.
func logGroups(dir string) (out []Group, err error) {
	dirs, err := blocks.Glob(dir, engine.StreamGroup+"*")
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		var about struct {
			Metadata struct{ Account, Stream string }
		}
		b, err := paths.ReadFile(filepath.Join(dir, engine.ConfigFile))
		if err != nil || json.Unmarshal(b, &about) != nil || about.Metadata.Stream != wire.LogName {
			continue
		}
		g := Group{Dir: dir, Name: filepath.Base(dir), Account: about.Metadata.Account}
		g.Peers, _ = readPeers(dir) // what needs them looks
		index, _, err := newestSnapshot(dir, g.Name)
		g.entries = err == nil && index > 0
		some, err := readLog(dir, g.Name, 0, func([]byte) error { g.stores = true; return errEnough })
		if err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
		g.entries = g.entries || some
		out = append(out, g)
	}
	return out, nil
}

var errEnough = errors.New("enough")

// readPeers reads who is in a raft group.
func readPeers(dir string) ([]string, error) {
	b, err := paths.ReadFile(filepath.Join(dir, engine.PeersFile))
	if err != nil {
		return nil, err
	}
	n := 0
	if len(b) >= 8 {
		n = int(binary.LittleEndian.Uint32(b[4:]))
	}
	if len(b) < 8 || n > 1000 || len(b) < 8+n*idLen {
		return nil, fmt.Errorf("%s cannot be read", filepath.Join(dir, engine.PeersFile))
	}
	peers := make([]string, 0, n)
	for i := range n {
		peers = append(peers, string(b[8+i*idLen:8+(i+1)*idLen]))
	}
	return peers, nil
}

// newestSnapshot is the state that a raft group's newest snapshot holds, and up to which
// index; index 0: there is none.
func newestSnapshot(dir, group string) (index uint64, data []byte, err error) {
	entries, err := os.ReadDir(filepath.Join(dir, engine.SnapshotsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, nil, err
	}
	var newest string
	var lastTerm uint64
	for _, e := range entries {
		var term, at uint64
		if n, err := fmt.Sscanf(e.Name(), engine.SnapshotName, &term, &at); err != nil || n != 2 || e.Name() != fmt.Sprintf(engine.SnapshotName, term, at) {
			continue
		}
		if newest == "" || term > lastTerm || term == lastTerm && at > index {
			newest, lastTerm, index = filepath.Join(dir, engine.SnapshotsDir, e.Name()), term, at
		}
	}
	if newest == "" {
		return 0, nil, nil
	}
	b, err := paths.ReadFile(newest)
	if err != nil {
		return 0, nil, err
	}
	end := len(b) - sumLen
	if end < 20 || !bytes.Equal(checksum(group, b[:end]), b[end:]) {
		return 0, nil, fmt.Errorf("the snapshot %s is damaged", newest)
	}
	peers := int(binary.LittleEndian.Uint32(b[16:]))
	if peers > end-20 {
		return 0, nil, fmt.Errorf("the snapshot %s is damaged", newest)
	}
	return binary.LittleEndian.Uint64(b[8:]), b[20+peers : end], nil
}

// checksum is what a snapshot of a raft group ends with.
func checksum(group string, b []byte) []byte {
	key := sha256.Sum256([]byte(group))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		panic(err) // only for a key of another length
	}
	h.Write(b)
	return h.Sum(nil)
}

// readLog calls entry with each entry of a raft group's log behind an index that is the
// group's own and not raft's, up to the first damaged record, where the engine cuts the
// log off. some is true where the log has any entry.
func readLog(dir, group string, after uint64, entry func([]byte) error) (some bool, err error) {
	files, err := blocks.List(filepath.Join(dir, engine.MessagesDir))
	if err != nil {
		return false, err
	}
	for _, f := range files {
		b, err := paths.ReadFile(f.Path)
		if err != nil {
			return some, err
		}
		whole, err := blocks.Raw(group, f.Index, b, func(r blocks.Record) error {
			some = true
			if uint64(r.Seq) <= after {
				return nil
			}
			return entriesOf(r.Data, entry)
		})
		if err != nil || !whole {
			return some, err
		}
	}
	return some, nil
}

// entriesOf takes a stored raft record apart (raft.go, appendEntry.encode): leader, term,
// commit, term and index before it, number of entries, and the entries, each its length,
// its type and its data.
func entriesOf(b []byte, entry func([]byte) error) error {
	const fixed = idLen + 4*8 + 2
	if len(b) < fixed {
		return nil // the engine cuts the log off there
	}
	n := int(binary.LittleEndian.Uint16(b[fixed-2:]))
	for b = b[fixed:]; n > 0 && len(b) >= 5; n-- {
		size := int(binary.LittleEndian.Uint32(b))
		if size < 1 || size > len(b)-4 {
			return nil
		}
		if b[4] == engine.EntryNormal {
			if err := entry(b[5 : 4+size]); err != nil {
				return err
			}
		}
		b = b[4+size:]
	}
	return nil
}
