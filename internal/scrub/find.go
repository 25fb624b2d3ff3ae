package scrub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"durablestream/event"
	"durablestream/internal/blocks"
)

// find makes one round, and where that finds damage that is not reported yet, reads all files
// again before it believes it.
//
// The engine may have been exchanging files. And a node's engine that was not stopped in
// order, or had no space for its last snapshot, first takes its copy to be as long as the
// files are, then cuts it back to its newest snapshot and stores the rest anew from its raft
// log. For some milliseconds messages are missing that were there before. So a result from
// before must not stand for the file as it is now, although the file has only grown since.
func (s *Scrub) find(ctx context.Context, asked bool) (blocks.Report, error) {
	found, err := s.round(ctx, asked)
	if err != nil || len(found.Damage) == 0 || fmt.Sprint(found.Damage) == s.told {
		return found, err
	}
	s.known = map[uint32]*scrubbed{}
	if found, err = s.round(ctx, asked); err != nil || len(found.Damage) == 0 {
		return found, err
	}
	now, err := s.b.Bounds()
	if due := s.state.Load().Up; err == nil && now.Last < due && s.Node != "" {
		err = fmt.Errorf("the engine has set this node's copy of the log back from %s to %s: it is read again", due, now.Last)
	}
	return found, err
}

// round reads the files that have changed, and then those that are due; where a reader
// asked, only the changed ones.
func (s *Scrub) round(ctx context.Context, asked bool) (blocks.Report, error) {
	due, err := s.b.Bounds()
	if err != nil {
		return blocks.Report{}, err
	}
	first, last := due.First, due.Last
	files, err := blocks.List(s.Blocks)
	if err != nil {
		return blocks.Report{}, err
	}
	now := time.Now()
	rest, often := roundEvery/5, grownEvery
	if asked {
		rest, often = 0, askedEvery
	}
	var old []*scrubbed
	newest, grown := uint32(0), false
	if len(files) > 0 {
		newest = files[len(files)-1].Index
	}
	for _, f := range files {
		info, err := os.Stat(f.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return blocks.Report{}, fmt.Errorf("%s has gone", f.Path)
		}
		if err != nil {
			return blocks.Report{}, err
		}
		k := s.known[f.Index]
		switch {
		case k != nil && info.Size() > k.Size && f.Index == newest && now.Sub(k.at) < often:
			grown = true // by appends
		case k == nil || !k.mod.Equal(info.ModTime()) || k.Size != info.Size():
			if err := s.read(ctx, f, info.ModTime(), last, rest); err != nil {
				return blocks.Report{}, err
			}
		case now.Sub(k.at) > readEvery && !asked:
			old = append(old, k)
		}
	}
	slices.SortFunc(old, func(a, b *scrubbed) int { return a.at.Compare(b.at) })
	for _, k := range old {
		if time.Since(now) > roundEvery {
			break // what has changed comes first
		}
		if err := s.read(ctx, k.File, k.mod, last, readEvery); err != nil {
			return blocks.Report{}, err
		}
	}
	oldest := now
	here := make(map[uint32]*scrubbed, len(files))
	for _, f := range files {
		k := s.known[f.Index]
		if k == nil { // a reader asked meanwhile, and it was not there then
			return blocks.Report{}, fmt.Errorf("%s was away", f.Path)
		}
		here[f.Index] = k
		if k.at.Before(oldest) {
			oldest = k.at
		}
	}
	s.known = here
	was := s.state.Load()
	if grown {
		last = min(last, here[newest].due)
	}
	found := inOrder(files, here)
	if blocks.Unwritten(found, first, last, due.Messages) {
		last--
	}
	if s.Node == "" {
		last = max(last, s.high)
	}
	rep := blocks.Join(found, first, last)
	s.state.Store(&State{Found: was.Found, Checked: oldest, Up: last})
	return rep, nil
}

// read reads one file, and rests so that all is within the share; but for most at most, and
// for no longer than lets it pass a gigabyte in 45 s, on a machine that is busy too.
func (s *Scrub) read(ctx context.Context, f blocks.File, mod time.Time, due event.Sequence, most time.Duration) error {
	begun := time.Now()
	b, err := blocks.CheckFile(f)
	if err != nil {
		return err
	}
	if begun.Sub(mod) < racy {
		mod = time.Time{}
	}
	s.known[f.Index] = &scrubbed{b, mod, begun, due}
	s.fresh = true
	if most > 0 {
		s.rest(ctx, min((share-1)*time.Since(begun), most, time.Duration(b.Size)*mostRest))
	}
	return ctx.Err()
}
