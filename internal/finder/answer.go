package finder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/index"
	"durablestream/internal/wire"
)

const (
	// findBytes is how large an answer grows, and findTime how long one is looked for.
	findBytes = 512 << 10
	findTime  = 100 * time.Millisecond
	// nearby is how far apart in a block two records may be that are read at once.
	nearby = 16 << 10
)

// answers answers questions, beside others that do.
func (f *Finder) answers() {
	for {
		select {
		case <-f.ctx.Done():
			return
		case m := <-f.asking:
			q, err := wire.DecodeFind(m.Data)
			if err != nil {
				continue // of another version, which reads the Log itself when nobody answers
			}
			_ = m.RespondMsg(f.Answer(q)) // the reader that asked has gone, or reads the Log itself
		}
	}
}

// answering is an answer that is being made.
type answering struct {
	wire.Found
	q     wire.Find
	want  index.Query
	until event.Sequence
	body  []byte
	n     int
	most  int // bytes that a message holds
	began time.Time
}

func (a *answering) enough() bool {
	return a.Through > a.q.After &&
		(len(a.body) >= findBytes || a.q.Limit > 0 && a.n >= a.q.Limit || time.Since(a.began) > findTime)
}

// Answer gives what of the Log matches q, as far as that is certain.
func (f *Finder) Answer(q wire.Find) *nats.Msg {
	a := &answering{
		Found: wire.Found{Through: q.After, Node: f.Node}, q: q, until: q.Until, most: int(f.Admin.MaxPayload()) - 1024, began: time.Now(),
		want: index.Query{Subjects: q.Subjects, Actor: q.Actor, CorrelationID: q.Correlation, Since: q.Since, Until: q.Before},
	}
	if full := f.full.Load(); q.Log == full.made {
		if err := f.search(a, full); err != nil {
			f.Logger.Debug("the engine is left to search what the index cannot", "seq", a.Through, "err", err)
			a.More = false
		}
	}
	return wire.EncodeFound(a.Found, a.body)
}

// search looks in the blocks that are full, and for a question that has an end also in the
// newest one: only who knows an end knows that all up to there was acknowledged.
func (f *Finder) search(a *answering, full *chain) error {
	bounded := a.until != 0
	if !bounded {
		a.until = full.end()
	}
	for _, x := range full.blocks {
		if x.Last() <= a.q.After {
			continue
		}
		if x.First() > a.until {
			return nil
		}
		if a.More = a.enough(); a.More {
			return nil
		}
		file := blocks.File{Index: x.Block(), Path: filepath.Join(f.Blocks, fmt.Sprintf("%d.blk", x.Block())), Size: x.Of().Size}
		info, err := os.Stat(file.Path)
		if err != nil {
			return err
		}
		if info.Size() != x.Of().Size || info.ModTime().UnixNano() != x.Of().Mod {
			return fmt.Errorf("%s has changed", file.Path)
		}
		places, err := x.Find(a.want, a.q.After, a.until)
		if err != nil {
			if errors.Is(err, index.ErrDamaged) {
				_ = os.Remove(index.Path(f.Dir, x.Block())) // the finder creates it again
			}
			f.again.Store(true)
			return err
		}
		if a.More, err = a.bring(file, places, min(x.Last(), a.until)); err != nil || a.More {
			return err
		}
	}
	if !bounded || a.until <= full.end() {
		return nil
	}
	if a.More = a.enough(); a.More {
		return nil
	}
	file, places, end, err := f.searchNewest(a, full)
	if err == nil && file.Path != "" {
		a.More, err = a.bring(file, places, min(end, a.until))
	}
	return err
}

// searchNewest gives the places in the newest block, which goes up to end; no file where
// nothing is known of it.
func (f *Finder) searchNewest(a *answering, full *chain) (file blocks.File, places []index.Place, end event.Sequence, err error) {
	last, err := f.Last()
	if err != nil {
		return blocks.File{}, nil, 0, err
	}
	a.until = min(a.until, last) // what is behind it in the file may yet be taken back
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.newest != nil && f.newest.Last() < a.until {
		f.extend()
	}
	g := f.newest
	if g == nil || g.Of().Log != full.made || g.First() != full.end()+1 || g.Last() <= a.q.After {
		return blocks.File{}, nil, 0, nil
	}
	places, err = g.Find(a.want, a.q.After, a.until)
	return g.File(), places, g.Last(), err
}

// bring adds what is in these places of a block, all that matches up to end. more tells that
// the answer was full before. After an error it holds what comes before.
func (a *answering) bring(file blocks.File, places []index.Place, end event.Sequence) (more bool, err error) {
	if len(places) == 0 {
		a.Through = end
		return false, nil
	}
	r, err := blocks.NewReader(file)
	if err != nil {
		return false, err
	}
	defer r.Close()
	for len(places) > 0 {
		n := 1
		for n < len(places) && places[n].Off-places[n-1].End < nearby && places[n].End-places[0].Off < findBytes/2 {
			n++
		}
		if err := r.Load(places[0].Off, places[n-1].End); err != nil {
			return false, err
		}
		for _, p := range places[:n] {
			rec, err := r.Record(p.Off, p.Seq)
			if err != nil {
				return false, err
			}
			if a.want.Wants(rec.Subject) {
				s := wire.Stored{Seq: rec.Seq, Time: rec.Time, Subject: rec.Subject, Data: rec.Data}
				if !a.q.NoHeaders {
					s.Header = rec.Header
				}
				if a.body == nil {
					a.body = make([]byte, 0, min(int(places[len(places)-1].End-places[0].Off), findBytes+nearby))
				}
				if size := wire.StoredSize(s); len(a.body)+size > a.most {
					if len(a.body) == 0 {
						return false, fmt.Errorf("sequence %s is too large for an answer", rec.Seq)
					}
					return true, nil
				}
				a.body = wire.AppendStored(a.body, s)
				a.n++
			}
			a.Through = p.Seq
			if a.enough() {
				return p.Seq < end, nil
			}
		}
		places = places[n:]
	}
	a.Through = end
	return false, nil
}
