package broker

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/fence"
	"durablestream/internal/paths"
	"durablestream/internal/wire"
)

// CheckLinks demands that a host directory is none, and holds none, of the symbolic links
// that lead a host elsewhere, and that none of our own files is a pipe or the like. The fence's own link stays in the store. What the engine
// opens it opens itself, and a start that waits there can be ended.
func CheckLinks(dir string) error {
	err := paths.NoLink(dir)
	if err == nil {
		err = paths.NoLinksBelow(dir, fenceLink)
	}
	if err == nil {
		err = paths.RegularBelow(dir, filepath.Join(StoreDir, server.JetStreamStoreDir))
	}
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// fenceLink reports that a link is the one of package fence, or what a crash has left of
// it: one that leads nowhere, or one that the engine was deleting. The next start removes
// them.
func fenceLink(link, to string) bool {
	if link == filepath.Join(StoreDir, fence.DataDir) && to == filepath.Join("..", "..", fence.DataDir) {
		return true
	}
	at := strings.Split(filepath.ToSlash(link), "/")                                                                                                         // store, jetstream, account, streams, EVENTS
	return len(at) == 5 && at[0] == StoreDir && at[1] == server.JetStreamStoreDir && at[3] == "streams" && strings.TrimPrefix(at[4], ".") == wire.LogName && // with a dot while the engine deletes it

		to == filepath.Join(StoreDir, fence.DataDir)
}

// noLinks demands that nothing which is opened before the lock is held is a link.
func noLinks(dir string, names ...string) error {
	err := paths.NoLink(dir)
	for _, name := range names {
		err = errors.Join(err, paths.NoLink(filepath.Join(dir, name)))
	}
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}
