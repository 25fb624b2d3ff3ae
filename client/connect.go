package client

import (
	"context"

	"github.com/nats-io/nats.go"

	"durablestream/internal/dial"
)

// Target says which broker to connect to: a project's host, or servers by name.
type Target struct {
	// AddressFile is the file in which the project's host leaves its address. It
	// is read again at every dial, so that a connection follows the host from
	// process to process.
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
	CA   string // whom to trust, instead of the system's authorities
	Cert string // the client's own certificate, where the server asks for one
	Key  string
}

// Connect makes a connection that reconnects for ever and never sends what its
// caller gave up on. Whoever calls it closes it. ErrKeyUnknown and ErrKeyNeeded say that
// the server does not let this key in, or nobody without one.
func Connect(ctx context.Context, t Target, opts ...nats.Option) (*nats.Conn, error) {
	return dial.Connect(ctx, t.dial(), opts...)
}

// String names the target for messages.
func (t Target) String() string { return t.dial().String() }

func (t Target) dial() dial.Target {
	return dial.Target{AddressFile: t.AddressFile, Servers: t.Servers, NKey: t.NKey, TLS: dial.TLSFiles(t.TLS), Name: t.Name}
}

// Hopeless reports that a Connect failed for what waiting does not mend: a key or a
// certificate, ours or the server's.
func Hopeless(err error) bool { return dial.Hopeless(err) }
