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
	"strings"
	"sync"
	"time"

	"durablestream/internal/wait"
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

	mu      sync.Mutex // guards next
	next    *listing   // that has not begun; nil: none
	looking sync.Mutex // held during a look, guards cleaned
	cleaned time.Time
}

const (
	maxProofs = 2048        // at one time; more wait
	staleAsk  = time.Minute // the file of somebody who was killed while asking

	acceptAgain = 10 * time.Millisecond
)

// Prove starts to answer processes that ask whether this process hosts dir, a path that
// leads to the directory wherever it was moved. about describes this host, and reports
// whether it still hosts. Prove calls end when a process that can write in dir asks for
// it.
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

// Stop ends it and waits for its goroutines; it may be called more than once.
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
			_ = wait.For(p.stopping, acceptAgain) // no descriptor is free: one will be
			continue
		}
		p.slots <- struct{}{}
		p.running.Go(func() {
			defer func() { <-p.slots }()
			p.answer(conn)
		})
	}
}

// answer answers one question. It does not answer a malformed one.
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

// listing is one listing of the directory, shared by all questions that came before it
// began.
type listing struct {
	names []string
	done  chan struct{}
}

// find searches for the file of a question.
func (p *Prover) find(q question) (secret string) {
	prefix := q.Ask + "." + q.ID + "."
	for _, name := range p.list() {
		if key, ok := strings.CutPrefix(name, prefix); ok {
			return key
		}
	}
	return ""
}

// list returns the names in the directory at a moment after the call. Many questions at
// once, as after a take-over, share one listing.
func (p *Prover) list() []string {
	p.mu.Lock()
	l := p.next
	first := l == nil
	if first {
		l = &listing{done: make(chan struct{})}
		p.next = l
	}
	p.mu.Unlock()
	if !first {
		<-l.done
		return l.names
	}
	p.looking.Lock()
	defer p.looking.Unlock()
	p.mu.Lock()
	p.next = nil // who comes now needs a later look
	p.mu.Unlock()
	defer close(l.done)
	dir, err := os.Open(p.dir)
	if err != nil {
		return nil
	}
	defer dir.Close()
	l.names, _ = dir.Readdirnames(-1) // without the one that is looked for, there is no answer
	if time.Since(p.cleaned) > staleAsk {
		p.clean(l.names)
		p.cleaned = time.Now()
	}
	return l.names
}

// clean removes the files of processes that were killed while they asked.
func (p *Prover) clean(names []string) {
	for _, name := range names {
		if ask, _, _ := strings.Cut(name, "."); ask != askJoin && ask != askEnd || strings.Count(name, ".") != 2 {
			continue
		}
		path := p.dir + "/" + name // not cleaned: ".." is the parent of an open directory
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == 0 && time.Since(info.ModTime()) > staleAsk {
			_ = os.Remove(path) // or the next time
		}
	}
}
