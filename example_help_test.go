package durablestream_test

import (
	"context"
	"log"
	"os"
	"path/filepath"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/roles"
)

// openTemp opens a log in a new directory, for an example; end closes and removes it.
func openTemp(ctx context.Context) (d *durablestream.DurableStream, end func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	d, err = durablestream.Open(ctx, durablestream.Config{Dir: filepath.Join(dir, ".opencode")})
	if err != nil {
		log.Fatal(err)
	}
	return d, func() { closeAndRemove(d, dir) }
}

func closeAndRemove(d *durablestream.DurableStream, dir string) {
	if err := d.Close(); err != nil {
		log.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		log.Fatal(err)
	}
}

// startKeyed starts one host that demands keys and TLS, in place of a cluster's nodes. It
// returns the URLs of the servers, and a directory that holds agent.nk, the seed of an
// agent's key, and ca.pem, the authority that signed the server's certificate.
func startKeyed(ctx context.Context) (servers []string, dir string, end func()) {
	dir, err := os.MkdirTemp("", "keyed")
	if err != nil {
		log.Fatal(err)
	}
	list := filepath.Join(dir, "keys.json")
	key, err := roles.Make("agent", roles.Agent, filepath.Join(dir, "agent.nk"))
	if err == nil {
		err = roles.Write(list, []roles.Key{key})
	}
	if err == nil {
		err = roles.MakeTLS(dir, []string{"127.0.0.1"})
	}
	if err != nil {
		log.Fatal(err)
	}
	host, err := broker.Start(ctx, broker.Config{
		Dir:  filepath.Join(dir, durablestream.HostDir),
		Keys: []broker.Key{{Name: key.Name, Role: string(key.Role), Public: key.Public}},
		TLS:  broker.TLSConfig{Cert: filepath.Join(dir, roles.CertFile), Key: filepath.Join(dir, roles.CertKey)},
	})
	if err != nil {
		log.Fatal(err)
	}
	return []string{host.ClientURL()}, dir, func() {
		if err := host.Stop(ctx); err != nil {
			log.Fatal(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			log.Fatal(err)
		}
	}
}
