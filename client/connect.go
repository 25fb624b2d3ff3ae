package client

import (
	"context"

	"github.com/nats-io/nats.go"

	"durablestream/internal/dial"
)

// Target names the broker to connect to: a project's host, or servers by URL.
type Target struct {
	// AddressFile is the file to which the project's host writes its address. Each dial
	// reads it again, so that a connection follows the host from process to process.
	AddressFile string
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
// caller has given up. The caller closes it. ErrKeyUnknown means that the server does not
// accept this key, and ErrKeyNeeded that it requires one.
func Connect(ctx context.Context, t Target, opts ...nats.Option) (*nats.Conn, error) {
	return dial.Connect(ctx, t.dial(), opts...)
}

// String describes the target for messages.
func (t Target) String() string { return t.dial().String() }

func (t Target) dial() dial.Target {
	return dial.Target{AddressFile: t.AddressFile, Servers: t.Servers, NKey: t.NKey, TLS: dial.TLSFiles(t.TLS), Name: t.Name}
}

// Hopeless reports whether a Connect failed for a reason that a retry cannot change: a
// key or a certificate, ours or the server's.
func Hopeless(err error) bool { return dial.Hopeless(err) }
