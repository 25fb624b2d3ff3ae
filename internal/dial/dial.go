// Package dial connects to a project's host or to servers, with a key and over TLS where
// they want it, and asks what the key may do.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/internal/address"
	"durablestream/internal/roles"
)

// Target says which broker to connect to: a project's host, or servers by name.
type Target struct {
	// AddressFile is the file in which the project's host leaves its address. It
	// is read again at every dial, so that a connection follows the host from
	// process to process.
	AddressFile string
	// Local, if not nil, is asked first at each dial: it connects to the host in this
	// process, and gives its token, or gives a nil connection while there is none.
	Local func() (net.Conn, string, error)
	// Joining, if not nil, hears of each look for the project's host: what was found, or
	// why nothing was. Its error ends that try to connect. Default: what was found counts.
	Joining func(host address.Host, err error) error
	// Servers are NATS URLs, used when AddressFile is empty.
	Servers []string
	// NKey is a file with the seed of the key to connect with. Default: none.
	NKey string
	// TLS names PEM files. Default: the system's authorities, for tls:// servers.
	TLS TLSFiles
	// Name is shown by the server's monitoring. Default "dstream".
	Name string
}

// TLSFiles are the client's side of TLS, each optional.
type TLSFiles struct {
	CA   string // whom to trust, instead of the system's authorities
	Cert string // the client's own certificate, where the server asks for one
	Key  string
}

// Connect makes a connection that reconnects for ever and never sends what its
// caller gave up on. Whoever calls it closes it.
func Connect(ctx context.Context, t Target, opts ...nats.Option) (*nats.Conn, error) {
	if t.Name == "" {
		t.Name = "dstream"
	}
	url := strings.Join(t.Servers, ",")
	base := []nats.Option{
		nats.Name(t.Name),
		// Or the library writes every lost connection on standard error; those who wait
		// are told why, by their calls.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
		// Nothing is kept for later: a publish that could not be sent fails at
		// once and is tried again by who still waits for it.
		nats.ReconnectBufSize(-1),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(2 * time.Second),
		nats.IgnoreAuthErrorAbort(),
	}
	var d *fileDialer
	if t.AddressFile != "" {
		d = &fileDialer{path: t.AddressFile, local: t.Local, joining: t.Joining}
		url = "nats://host.dstream:4222" // never dialled: the dialer asks the file
		base = append(base, nats.SetCustomDialer(d), nats.TokenHandler(d.token), nats.IgnoreDiscoveredServers(),
			// Or each reconnect asks the DNS for the name above, seconds without a
			// network, while the connection is locked.
			nats.SkipHostLookup(), nats.UserInfoHandler(d.user))
	}
	who, public, err := t.identify(d)
	if err != nil {
		return nil, err
	}
	base = append(base, who...)
	if t.NKey != "" {
		base = append(base, endRevoked()...)
	}
	nc, err := nats.Connect(url, append(base, opts...)...)
	if err != nil {
		return nil, t.refusal(err, public, d)
	}
	return nc, nil
}

// revokedAfter is how long the servers may refuse a key that they have let in before:
// those of a cluster do not read their lists at one time.
const revokedAfter = 5 * time.Second

// endRevoked closes a connection whose key is refused for good.
func endRevoked() []nats.Option {
	var since atomic.Int64 // Unix ns of the first refusal in a row; 0: none
	return []nats.Option{
		nats.ReconnectHandler(func(*nats.Conn) { since.Store(0) }),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
			now := time.Now().UnixNano()
			switch {
			case !errors.Is(err, nats.ErrAuthorization):
			case since.CompareAndSwap(0, now):
			case now-since.Load() > int64(revokedAfter):
				go nc.Close() // it waits for what has called this
			}
		}),
	}
}

// String names the target for messages.
func (t Target) String() string {
	if t.AddressFile != "" {
		return "the host that " + t.AddressFile + " names"
	}
	return strings.Join(t.Servers, ", ")
}

// reconnectDelay is short: a host that takes over is there within some 100 ms, and
// to look at its address costs next to nothing.
func reconnectDelay(attempts int) time.Duration {
	return min(5*time.Millisecond<<min(attempts, 6), 100*time.Millisecond)
}

// fileDialer dials the host in this process, or the one of the directory that the file is
// in, once that has shown that it is.
type fileDialer struct {
	path    string
	local   func() (net.Conn, string, error) // may be nil
	joining func(address.Host, error) error  // may be nil
	last    atomic.Pointer[dialled]
}

// dialled is what goes with the connection that was made last.
type dialled struct {
	token string
	local bool
	host  string // for the server's certificate
}

func (d *fileDialer) Dial(network, _ string) (net.Conn, error) {
	if d.local != nil {
		if conn, token, err := d.local(); conn != nil || err != nil {
			d.last.Store(&dialled{token: token, local: true})
			return conn, err
		}
	}
	a, err := address.Find(d.path)
	if d.joining != nil {
		err = d.joining(a, err)
	}
	if err != nil {
		return nil, err
	}
	_, at, _ := strings.Cut(a.URL, "://")
	host, _, err := net.SplitHostPort(at)
	if err != nil {
		return nil, fmt.Errorf("%s: the address %q: %w", d.path, a.URL, err)
	}
	d.last.Store(&dialled{token: a.Token, host: host})
	return (&net.Dialer{Timeout: 2 * time.Second}).Dial(network, at)
}

func (d *fileDialer) token() string { return d.now().token }

// user is who the host in this process takes us for where it has keys.
func (d *fileDialer) user() (name, password string) {
	if now := d.now(); now.local {
		return roles.HostUser, now.token
	}
	return "", ""
}

func (d *fileDialer) now() dialled {
	if now := d.last.Load(); now != nil {
		return *now
	}
	return dialled{}
}
