package hosting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/broker"
	"durablestream/internal/paths"
	"durablestream/internal/readcopy"
	"durablestream/internal/roles"
)

// hostCopy hosts a temporary copy of a log that cannot be written, for this process
// alone. On failure its error joins why and the cause.
func (p *Process) hostCopy(ctx context.Context, cfg Config, why *broker.UnwritableError) error {
	var node broker.Managed
	b, err := paths.ReadFile(filepath.Join(why.Dir, broker.ManagedFile))
	if err == nil && json.Unmarshal(b, &node) == nil && node.Cluster != "" {
		return fmt.Errorf("%w; not so here: this is the node %s of the cluster %s, whose own files may lack the newest events: ask another node (--server)", why, node.Node, node.Cluster)
	}
	if err := broker.CheckLinks(why.Dir); err != nil {
		return err
	}
	c, err := readcopy.Make(why.Dir, broker.StoreDir, broker.AsideDir)
	if err == nil {
		err = withoutKeys(c.Dir)
	}
	if err == nil {
		cfg.copied = c.Dir
		cfg.NoMirror, cfg.NoSweeper, cfg.NoCreate, cfg.Listen = true, true, true, ""
		err = p.host(ctx, cfg)
	}
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.copy, p.copyOf = c, why
		return nil
	}
	err = fmt.Errorf("%w; but not here: %w", why, err)
	if c != nil {
		err = errors.Join(err, c.Remove())
	}
	return err
}

// withoutKeys moves a log that is hosted with keys to the place where a host without keys
// finds it. A user who can copy the log can read it.
func withoutKeys(dir string) error {
	accounts := filepath.Join(dir, broker.StoreDir, server.JetStreamStoreDir)
	kept := filepath.Join(accounts, roles.LogAccount)
	if _, err := os.Stat(kept); err != nil {
		return nil //nolint:nilerr // there were no keys
	}
	open := filepath.Join(accounts, server.DEFAULT_GLOBAL_ACCOUNT)
	if err := os.RemoveAll(open); err != nil { // with keys, it is empty
		return err
	}
	return os.Rename(kept, open)
}

// Copied is the reason why this process hosts a copy; nil: it hosts or has joined the log
// itself.
func (p *Process) Copied() *broker.UnwritableError {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.copyOf
}

// removeCopy removes the copy of hostCopy.
func (p *Process) removeCopy() error {
	if p.Copied() == nil {
		return nil
	}
	return p.copy.Remove()
}
