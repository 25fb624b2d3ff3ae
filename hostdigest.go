package durablestream

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/internal/blocks"
	"durablestream/internal/wire"
)

// answerDigests lets other nodes, and the doctor, compare this node's copy of the Log with
// theirs.
func (h *host) answerDigests() error {
	if h.cfg.Serve.Cluster == nil {
		return nil
	}
	h.digesting = make(chan struct{}, 1)
	_, err := h.nc.Subscribe(wire.DigestSubject(h.cfg.Serve.Name), func(m *nats.Msg) {
		go h.answerDigest(m) // it only reads, and ends by itself
	})
	return err
}

func (h *host) answerDigest(m *nats.Msg) {
	h.digesting <- struct{}{} // one at a time: it reads all of the store
	defer func() { <-h.digesting }()
	d, err := h.digest(m.Data)
	if err != nil {
		d.Error = err.Error()
	}
	if b, err := json.Marshal(d); err == nil {
		_ = m.Respond(b) // whoever asked has gone, or asks again
	}
}

func (h *host) digest(question []byte) (blocks.Digest, error) {
	var q blocks.DigestRange
	if err := json.Unmarshal(question, &q); err != nil || q.From == 0 || q.From > q.To || q.Every == 0 {
		return blocks.Digest{}, fmt.Errorf("durablestream: %q asks for no range", question)
	}
	if err := broker.CheckEngine(); err != nil {
		return blocks.Digest{}, fmt.Errorf("durablestream: %w", err)
	}
	dirs, err := blocks.Find(filepath.Join(h.cfg.Dir, HostDir, broker.StoreDir))
	if err == nil && len(dirs) != 1 {
		err = fmt.Errorf("durablestream: this node has no copy of the log")
	}
	if err != nil {
		return blocks.Digest{}, err
	}
	return blocks.DigestOf(dirs[0], q)
}
