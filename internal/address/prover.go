package address

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Prover is the host's side of the proof: it listens on the loopback.
type Prover struct {
	dir      string
	about    func() (Answer, bool)
	end      func()
	listener net.Listener
	running  sync.WaitGroup
	slots    chan struct{}
	stopping context.Context // ends the questions that are under way
	stop     context.CancelFunc
}

const (
	maxProofs = 2048        // at one time; more wait
	staleAsk  = time.Minute // the file of somebody who was killed while asking

	acceptAgain = 10 * time.Millisecond
)

// Prove begins to answer those who ask whether this process hosts dir, which is a path
// that leads to the directory wherever it was moved. about says what this host is, and
// whether it still hosts. end is called when somebody who can write in dir asks for it.
func Prove(dir string, about func() (Answer, bool), end func()) (*Prover, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("address: cannot listen for those who join: %w", err)
	}
	p := &Prover{dir: dir, about: about, end: end, listener: l, slots: make(chan struct{}, maxProofs)}
	p.stopping, p.stop = context.WithCancel(context.Background())
	p.running.Go(p.accept)
	return p, nil
}

// Addr is where it listens.
func (p *Prover) Addr() string { return p.listener.Addr().String() }

// Stop ends it; it may be called more than once. It
// returns when nothing of it runs any more.
func (p *Prover) Stop() {
	p.stop()
	_ = p.listener.Close() // it was open
	p.running.Wait()
}

func (p *Prover) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(acceptAgain) // no descriptor is free: one will be
			continue
		}
		p.slots <- struct{}{}
		p.running.Go(func() {
			defer func() { <-p.slots }()
			p.answer(conn)
		})
	}
}

// answer answers one question. Whoever asks wrongly gets none.
func (p *Prover) answer(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // who asked has the answer, or asks again
	defer context.AfterFunc(p.stopping, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(proveTime))
	line, err := bufio.NewReader(io.LimitReader(conn, proveLine)).ReadBytes('\n')
	var q question
	if err != nil || json.Unmarshal(line, &q) != nil || q.ID == "" || q.Ask != askJoin && q.Ask != askEnd {
		return
	}
	secret := p.find(q)
	about, hosts := p.about()
	if secret == "" || !hosts {
		return
	}
	if json.NewEncoder(conn).Encode(signed{about, about.sign(q.Ask, secret)}) == nil && q.Ask == askEnd {
		p.end()
	}
}

// find looks for the file of a question, and takes away those that were left behind.
func (p *Prover) find(q question) (secret string) {
	dir, err := os.Open(p.dir)
	if err != nil {
		return ""
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return ""
	}
	for _, name := range names {
		ask, rest, _ := strings.Cut(name, ".")
		id, key, ok := strings.Cut(rest, ".")
		if !ok || ask != askJoin && ask != askEnd {
			continue
		}
		if ask == q.Ask && id == q.ID {
			secret = key
			continue
		}
		path := p.dir + "/" + filepath.Base(name)
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == 0 && time.Since(info.ModTime()) > staleAsk {
			_ = os.Remove(path) // or at the next question
		}
	}
	return secret
}
