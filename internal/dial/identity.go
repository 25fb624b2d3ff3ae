package dial

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/roles"
)

// errSetup marks a fault on this side of the connection.
var errSetup = errors.New("")

// Hopeless reports whether a Connect failed for a reason that a retry cannot change: a
// key or a certificate, ours or the server's.
func Hopeless(err error) bool {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	return errors.Is(err, event.ErrKeyUnknown) || errors.Is(err, event.ErrKeyNeeded) || errors.Is(err, errSetup) ||
		errors.As(err, &unknown) || errors.As(err, &name)
}

// identify adds the proof of the client's identity: the key, and certificates. public is
// the key's public part, "" without one.
func (t Target) identify(d *fileDialer) (opts []nats.Option, public string, err error) {
	// An attacker that could guess the inbox of the next answer could send a false answer
	// to it; the library's own inbox names can be computed from each other.
	inbox := "_INBOX." + rand.Text()
	if t.NKey != "" {
		pair, err := roles.ReadSeed(t.NKey)
		if err != nil {
			return nil, "", fmt.Errorf("client: %w%w", err, errSetup)
		}
		if public, err = pair.PublicKey(); err != nil {
			return nil, "", fmt.Errorf("client: %s: %w", t.NKey, err)
		}
		inbox = roles.InboxPrefix(public) + "." + rand.Text()
		opts = append(opts, nats.Nkey(public, pair.Sign))
	}
	opts = append(opts, nats.CustomInboxPrefix(inbox))
	cfg, err := t.TLS.config(d)
	if err != nil {
		return nil, "", fmt.Errorf("client: %w%w", err, errSetup)
	}
	if cfg != nil {
		opts = append(opts, withTLS(cfg))
	}
	return opts, public, nil
}

// withTLS sets the TLS options for a server that requires TLS; nats.Secure would require
// it for the host in this process too.
func withTLS(cfg *tls.Config) nats.Option {
	return func(o *nats.Options) error { o.TLSConfig = cfg; return nil }
}

// config reads the files. With an address file the server's certificate must be valid for
// the host of the dialled address.
func (f TLSFiles) config(d *fileDialer) (*tls.Config, error) {
	if f == (TLSFiles{}) && d == nil {
		return nil, nil //nolint:nilnil // the library's defaults
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("the TLS authorities cannot be read: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the TLS authorities: %s holds no certificate in PEM form", f.CA)
		}
	}
	if f.Cert != "" || f.Key != "" {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("the TLS certificate %q and key %q cannot be used: %w", f.Cert, f.Key, err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	if d != nil {
		// The library verifies the name of the URL, which is not the host's name here.
		cfg.InsecureSkipVerify = true
		cfg.VerifyConnection = func(s tls.ConnectionState) error {
			now := d.now()
			if now.local { // both ends of the connection are in this process
				return nil
			}
			return verify(s, cfg.RootCAs, now.host)
		}
	}
	return cfg, nil
}

// verify does what crypto/tls does by itself, for a name that is known only now.
func verify(s tls.ConnectionState, authorities *x509.CertPool, name string) error {
	opts := x509.VerifyOptions{Roots: authorities, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, cert := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	_, err := s.PeerCertificates[0].Verify(opts)
	return err
}

// refusal puts a failed connect into words. A refused token is another case: the host was
// replaced between the read of its address and the dial.
func (t Target) refusal(err error, public string, d *fileDialer) error {
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, nats.ErrAuthorization) && public != "":
		return fmt.Errorf("client: %s: %w, %s (of %s): an operator adds it to the server's list with dstream keys make, and has the server read it (SIGHUP)",
			t, event.ErrKeyUnknown, public, t.NKey)
	case errors.Is(err, nats.ErrAuthorization) && (d == nil || d.now().token == ""):
		return fmt.Errorf("client: %s: %w: give its seed file (--nkey, DSTREAM_NKEY); dstream keys make makes one", t, event.ErrKeyNeeded)
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return fmt.Errorf("client: %s: this log is hosted without keys: leave --nkey (DSTREAM_NKEY, Target.NKey) out%w", t, errSetup)
	case errors.As(err, &unknown):
		return fmt.Errorf("client: cannot connect to %s: %w: name the authority that made the server's certificate (--tls-ca, DSTREAM_TLS_CA)", t, err)
	}
	return fmt.Errorf("client: cannot connect to %s: %w", t, err)
}
