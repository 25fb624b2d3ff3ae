package doctor

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/broker"
	"durablestream/internal/blocks"
	"durablestream/internal/console"
	"durablestream/internal/fence"
	"durablestream/internal/paths"
	"durablestream/internal/roles"
)

// place is the fence around the Log of the lone host here.
func (d *Examination) place() fence.Store {
	store := filepath.Join(d.host, broker.StoreDir)
	account := server.DEFAULT_GLOBAL_ACCOUNT
	if paths.Exists(filepath.Join(store, server.JetStreamStoreDir, roles.LogAccount)) {
		account = roles.LogAccount
	}
	return fence.Store{Dir: store, Account: account, Aside: filepath.Join(d.host, broker.DamagedDir), Logger: slog.New(console.Handler(d.cfg.Words)),
		Blind: broker.CheckEngine() != nil}
}

// lookAtPlace looks whether the Log is where the engine finds it. A host that runs sees to
// that itself. It reports a store of which nothing more can be said: the Log has gone, or is
// there twice.
func (d *Examination) lookAtPlace() (stop bool) {
	if d.held || d.clustered() || !paths.Exists(filepath.Join(d.host, broker.StoreDir)) {
		return false
	}
	due, err := d.place().Due()
	if err != nil {
		d.add(Finding{Name: FoundPlace, Sure: true, What: err.Error()})
		return true
	}
	if due == "" {
		return false
	}
	d.add(Finding{Name: FoundPlace, Sure: true, What: due + ". The next start puts that right, too",
		Repair: "puts the Log and its configuration back where the engine finds them",
		Keeps:  "what is replaced, in durable_stream/" + broker.DamagedDir,
		fix: func(ctx context.Context) (string, error) {
			release, err := d.stopHost(ctx)
			if err != nil {
				return "", err
			}
			err = d.place().Settle()
			if rerr := release(); err == nil {
				err = rerr
			}
			if err != nil {
				return "", err
			}
			return "the Log is in its place", nil
		}})
	dirs, err := blocks.Find(filepath.Join(d.host, broker.StoreDir))
	return err == nil && len(dirs) > 1
}
