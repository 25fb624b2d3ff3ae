package brokertest

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/address"
)

// EventPublish is how a publish of an event begins on the wire: single ones and
// those of a batch, but no request to the engine's API and no guard.
const EventPublish = "HPUB events."

// Proxy stands on the loopback between clients and a host's broker. It passes
// requests (client to server) and answers (server to client) on until it is told
// to lose them, to hold them, or to cut the connections.
type Proxy struct {
	listener net.Listener
	broker   func() (string, error) // host:port, asked at each dial
	tokens   string                 // address file
	running  sync.WaitGroup

	mu      sync.Mutex // guards what is below, and every link's fields
	change  *sync.Cond // of anything below
	links   map[*link]struct{}
	faults  []*Fault // armed and not yet met
	stalled bool     // answers wait
	closed  bool
}

// Fault is what happens to the first connection over which a marker passes.
type Fault struct {
	proxy  *Proxy
	marker string
	hold   bool
	met    chan struct{}
	link   *link
}

type link struct {
	client, server net.Conn
	tail           []byte // the last bytes that passed
	deaf           bool   // answers are thrown away
	holding        bool   // requests wait in held
	held           []byte
	gone           bool // the client's side has ended
	done           chan struct{}
}

// Proxy starts a proxy in front of the host's broker; it ends with the test.
func (h *Host) Proxy(t testing.TB) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	file := broker.AddressPath(h.Config.Dir)
	p := &Proxy{listener: l, tokens: file, links: map[*link]struct{}{}}
	p.change = sync.NewCond(&p.mu)
	p.broker = func() (string, error) {
		a, err := address.Read(file)
		return strings.TrimPrefix(a.URL, "nats://"), err
	}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// URL is where clients connect to.
func (p *Proxy) URL() string { return "nats://" + p.listener.Addr().String() }

// Connect makes a connection through the proxy, closed when the test ends.
func (p *Proxy) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := client.Connect(t.Context(), client.Target{Servers: []string{p.URL()}},
		nats.IgnoreDiscoveredServers(),
		nats.TokenHandler(func() string {
			a, _ := address.Read(p.tokens) // an empty token is refused, and dialled again
			return a.Token
		}))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// NewClient makes a client over a connection of its own through the proxy.
func (p *Proxy) NewClient(t testing.TB, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.New(t.Context(), p.Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// LoseAnswers waits for a request that holds marker: it reaches the server, and
// no answer on that connection comes back from then on, until it is cut.
func (p *Proxy) LoseAnswers(marker string) *Fault { return p.arm(marker, false) }

// HoldRequests waits for a request that holds marker: it and all that follows on
// that connection stay in the proxy, also when the connection is cut, until
// Release, or for ever.
func (p *Proxy) HoldRequests(marker string) *Fault { return p.arm(marker, true) }

func (p *Proxy) arm(marker string, hold bool) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &Fault{proxy: p, marker: marker, hold: hold, met: make(chan struct{})}
	p.faults = append(p.faults, f)
	return f
}

// Met is closed when the request has come.
func (f *Fault) Met() <-chan struct{} { return f.met }

// Done is closed when the connection that the request came over has ended on both
// sides: the server has read all that it was sent. Only after Met.
func (f *Fault) Done() <-chan struct{} { return f.link.done }

// Release sends on what was held, on the connection to the server that it was
// meant for. Answers to a client that is gone are dropped.
func (f *Fault) Release(t testing.TB) {
	t.Helper()
	<-f.met
	f.proxy.mu.Lock()
	defer f.proxy.mu.Unlock()
	_, err := f.link.server.Write(f.link.held)
	require.NoError(t, err, "release what was held")
	f.link.held, f.link.holding = nil, false
	f.proxy.change.Broadcast()
}

// StallAnswers keeps every answer in the proxy until Resume.
func (p *Proxy) StallAnswers() { p.setStalled(true) }

// Resume lets answers pass again, those that waited first.
func (p *Proxy) Resume() { p.setStalled(false) }

func (p *Proxy) setStalled(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = on
	p.change.Broadcast()
}

// Cut ends every client's connection, as a broken network would. What is held
// stays with the proxy.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.client.Close()
	}
}

func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		l.client.Close()
		l.server.Close()
	}
	p.change.Broadcast()
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(c net.Conn) {
	defer c.Close()
	to, err := p.broker()
	if err != nil {
		return
	}
	s, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer s.Close()
	l := &link{client: c, server: s, done: make(chan struct{})}
	defer close(l.done)
	p.mu.Lock()
	p.links[l] = struct{}{}
	if p.closed {
		c.Close()
		s.Close()
	}
	p.mu.Unlock()

	var down sync.WaitGroup
	down.Go(func() { p.answers(l) })
	p.requests(l)
	// The client is gone. The server's side stays for what is held for it.
	p.mu.Lock()
	l.gone = true
	p.change.Broadcast()
	for l.holding && !p.closed {
		p.change.Wait()
	}
	delete(p.links, l)
	p.mu.Unlock()
	if tcp, ok := s.(*net.TCPConn); ok {
		tcp.CloseWrite() // the server reads to the end what was sent
	}
	down.Wait()
}

func (p *Proxy) requests(l *link) {
	buf := make([]byte, 64<<10)
	for {
		n, err := l.client.Read(buf)
		if n > 0 && p.request(l, buf[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

// request passes on one chunk, or what of it comes before a request to be held.
// A link that goes deaf is deaf before its request is sent.
func (p *Proxy) request(l *link, chunk []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.holding {
		l.held = append(l.held, chunk...)
		return nil
	}
	for i, f := range p.faults {
		// A marker may be cut in two; one that has passed whole is past.
		tail := l.tail[max(0, len(l.tail)-len(f.marker)+1):]
		at := bytes.Index(append(bytes.Clone(tail), chunk...), []byte(f.marker))
		if at < 0 {
			continue
		}
		p.faults = append(p.faults[:i], p.faults[i+1:]...)
		f.link = l
		if f.hold {
			at = max(at-len(tail), 0)
			l.holding, l.held = true, bytes.Clone(chunk[at:])
			chunk = chunk[:at]
		} else {
			l.deaf = true
		}
		close(f.met)
		break
	}
	l.tail = append(l.tail, chunk...)
	l.tail = bytes.Clone(l.tail[max(0, len(l.tail)-64):])
	_, err := l.server.Write(chunk)
	return err
}

func (p *Proxy) answers(l *link) {
	buf := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buf)
		p.mu.Lock()
		for p.stalled && !p.closed && !l.gone {
			p.change.Wait()
		}
		lost := l.deaf || l.gone
		p.mu.Unlock()
		if n > 0 && !lost {
			l.client.Write(buf[:n]) // an error shows in requests as well
		}
		if err != nil {
			l.client.Close()
			return
		}
	}
}
