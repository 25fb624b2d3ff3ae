package broker

import (
	"context"
	"fmt"

	"durablestream/internal/blocks"
)

// find makes one round, and where that finds damage that is not told yet, reads all files
// again before it believes it.
//
// The engine may have been exchanging files. And a node's engine that was not stopped in
// order, or had no space for its last snapshot, first takes its copy to be as long as the
// files are, then cuts it back to its newest snapshot and stores the rest anew from its raft
// log: what was due before that and is read after it is missing for some milliseconds. So a
// file that was read too early must not stand for what it holds now, although it has
// only grown since.
func (s *scrub) find(ctx context.Context, asked bool) (blocks.Report, error) {
	found, err := s.round(ctx, asked)
	if err != nil || len(found.Damage) == 0 || fmt.Sprint(found.Damage) == s.told {
		return found, err
	}
	s.known = map[uint32]*scrubbed{}
	if found, err = s.round(ctx, asked); err != nil || len(found.Damage) == 0 {
		return found, err
	}
	now, err := s.bounds()
	if due := s.state.Load().Up; err == nil && now.last < due && s.b.cfg.Cluster != nil {
		err = fmt.Errorf("the engine has set this node's copy of the log back from %s to %s: it is read again", due, now.last)
	}
	return found, err
}
