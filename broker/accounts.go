package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"durablestream/internal/certs"
	"durablestream/internal/roles"
)

// applyKeys lets in the keys of c and nobody else, and our own connections within
// this process, which prove themselves with secret: it is made at each start and
// never written.
func (c Config) applyKeys(opts *server.Options, secret string) error {
	if len(c.Keys) == 0 {
		return nil
	}
	return c.exchangeKeys(opts, secret)
}

// exchangeKeys is applyKeys that also takes no keys at all: then only our own
// connections are let in.
func (c Config) exchangeKeys(opts *server.Options, secret string) error {
	if err := roles.Check("(broker.Config.Keys)", c.roleKeys()); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	var made server.Options
	if err := made.ProcessConfigString(roles.Accounts(c.roleKeys(), secret, c.gate)); err != nil {
		return fmt.Errorf("broker: the server does not take the accounts of the keys: %w", err)
	}
	opts.Authorization = "" // the secret is now a password of LOG's
	opts.Accounts, opts.SystemAccount = made.Accounts, made.SystemAccount
	opts.Users, opts.Nkeys = made.Users, made.Nkeys
	opts.AlwaysEnableNonce = true // or a list without keys looks like no list to who shows one
	return nil
}

// applyTLS makes clients use TLS; they may show a certificate, and it is their key
// that says who they are.
func (c Config) applyTLS(opts *server.Options) error {
	if c.TLS == (TLSConfig{}) {
		return nil
	}
	cfg, err := c.TLS.load()
	if err != nil {
		return err
	}
	opts.TLS, opts.TLSConfig, opts.TLSTimeout = true, cfg, 5
	return nil
}

// load reads the files. The result is for a server's side of clients and of routes.
func (t TLSConfig) load() (*tls.Config, error) {
	if t.Cert == "" || t.Key == "" {
		return nil, asConfig(errors.New("broker: TLS needs a certificate and its key: give both"))
	}
	cfg, err := certs.Load(t.Cert, t.Key, t.CA)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	return cfg, nil
}

// checkListen refuses to let other machines in unless it is known who they are and
// nobody can listen in between.
func (c Config) checkListen(what, address, host string) error {
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	if loopback || c.Insecure || len(c.Keys) > 0 && c.TLS.Cert != "" {
		return nil
	}
	missing := "keys and TLS"
	switch {
	case len(c.Keys) > 0:
		missing = "TLS"
	case c.TLS.Cert != "":
		missing = "keys"
	}
	return fmt.Errorf("broker: %s %q is no loopback address: that needs %s, or whoever reaches it can read and write the log (dstream keys --help); --insecure allows it all the same",
		what, address, missing)
}

// account is the one that holds the Log.
func (c Config) account() string {
	if len(c.Keys) > 0 {
		return roles.LogAccount
	}
	return server.DEFAULT_GLOBAL_ACCOUNT
}

// moveAccount takes the Log of a single host along when keys are given to it for the
// first time: the engine keeps each account's streams in a directory of its own. The
// way back is closed, see claim.
func (b *Broker) moveAccount() error {
	if len(b.cfg.Keys) == 0 {
		return nil
	}
	dir := filepath.Join(b.cfg.Dir, StoreDir, server.JetStreamStoreDir)
	open, kept := filepath.Join(dir, server.DEFAULT_GLOBAL_ACCOUNT), filepath.Join(dir, roles.LogAccount)
	if _, err := os.Stat(kept); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err := os.Stat(open)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && b.cfg.Cluster != nil:
		return fmt.Errorf("broker: the log in %s is a cluster's without keys, and stays one: start a cluster with keys in other directories, and restore the mirror into it", b.cfg.Dir)
	case err == nil:
		err = os.Rename(open, kept)
	}
	if err != nil {
		return fmt.Errorf("broker: cannot move the log to where keys protect it: %w", err)
	}
	return nil
}

// credentials are those of our own connections within this process.
func (b *Broker) credentials() nats.Option {
	if len(b.cfg.Keys) > 0 {
		return nats.UserInfo(roles.HostUser, b.token)
	}
	return nats.Token(b.token)
}

// logAccount is the account that holds the Log, in the running server.
func (b *Broker) logAccount() (*server.Account, error) {
	acc, err := b.server.LookupAccount(b.cfg.account())
	if err != nil {
		return nil, fmt.Errorf("broker: the account %s: %w", b.cfg.account(), err)
	}
	return acc, nil
}

// Key is a public key that may connect, and its role.
type Key struct {
	Name   string
	Role   string // "agent", "operator" or "admin"
	Public string // the NKey, "U…"
}

func (c Config) roleKeys() []roles.Key {
	keys := make([]roles.Key, len(c.Keys))
	for i, k := range c.Keys {
		keys[i] = roles.Key{Name: k.Name, Role: roles.Role(k.Role), Public: k.Public}
	}
	return keys
}

// SetKeys lets in other keys than before, without a restart: who is connected with a
// key that is gone, or has another role now, is cut off. With none, everybody is but
// the host itself.
func (b *Broker) SetKeys(keys []Key) error {
	if len(b.cfg.Keys) == 0 {
		return errors.New("broker: keys are exchanged for keys: a host has some from its start, or none")
	}
	cfg := b.cfg
	cfg.Keys = keys
	opts := b.opts.Clone()
	if err := cfg.exchangeKeys(opts, b.token); err != nil {
		return err
	}
	if a, ok := b.server.Addr().(*net.TCPAddr); ok {
		opts.Port = a.Port
	}
	if err := b.appends.Reload(b.server, opts, b.cfg.account()); err != nil {
		return fmt.Errorf("broker: the server does not take the new keys: %w", err)
	}
	return nil
}
