// Package dial connects to a project's host or to servers, with a key and over TLS if
// they require it, and asks what the key may do.
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

// Target names the broker to connect to: a project's host, or servers by URL.
type Target struct {
	// AddressFile is the file to which the project's host writes its address. Each dial
	// reads it again, so that a connection follows the host from process to process.
	AddressFile string
	// Local, if not nil, is called first at each dial. It connects to the host in this
	// process and returns its token, or returns a nil connection if this process does not
	// host.
	Local func() (net.Conn, string, error)
	// Joining, if not nil, is called with the result of each search for the project's
	// host: the host, or the error. Its error ends that attempt to connect. Default:
	// every host found is accepted.
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
	CA   string // authorities to trust, instead of the system's
	Cert string // the client's own certificate, if the server requires one
	Key  string
}

// Connect returns a connection that reconnects without limit, and never sends what its
// caller has given up. The caller closes it.
func Connect(ctx context.Context, t Target, opts ...nats.Option) (*nats.Conn, error) {
	if t.Name == "" {
		t.Name = "dstream"
	}
	url := strings.Join(t.Servers, ",")
	base := []nats.Option{
		nats.Name(t.Name),
		// Otherwise the library writes every lost connection to standard error. Calls
		// that wait report the reason.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
		// The library keeps nothing for later: a publish that could not be sent fails at
		// once, and the call that still waits for it retries.
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
		url = "nats://host.dstream:4222" // never dialled: the dialer reads the file
		base = append(base, nats.SetCustomDialer(d), nats.TokenHandler(d.token), nats.IgnoreDiscoveredServers(),
			// Otherwise each reconnect asks the DNS for the name above, for seconds
			// without a network, while the connection is locked.
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

// revokedAfter is how long the servers may refuse a key that they accepted before: the
// servers of a cluster read their lists at different times.
const revokedAfter = 5 * time.Second

// endRevoked closes a connection whose key is refused permanently.
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
				go nc.Close() // Close waits for the callback that called this
			}
		}),
	}
}

// String describes the target for messages.
func (t Target) String() string {
	if t.AddressFile != "" {
		return "the host that " + t.AddressFile + " names"
	}
	return strings.Join(t.Servers, ", ")
}

// reconnectDelay is short: a host that takes over is ready within some 100 ms, and a read
// of its address costs almost nothing.
func reconnectDelay(attempts int) time.Duration {
	return min(5*time.Millisecond<<min(attempts, 6), 100*time.Millisecond)
}

// fileDialer dials the host in this process, or the host of the file's directory once it
// has proved that it is.
type fileDialer struct {
	path    string
	local   func() (net.Conn, string, error) // may be nil
	joining func(address.Host, error) error  // may be nil
	last    atomic.Pointer[dialled]
}

// dialled is the address and credentials of the last connection.
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

// user is the user as which the host in this process accepts us, if it has keys.
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
