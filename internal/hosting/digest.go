package hosting

import (
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/internal/blocks"
	"durablestream/internal/wire"
)

// answerDigests lets other nodes, and the doctor, compare their copies of the Log with
// this node's store.
func answerDigests(nc *nats.Conn, node, store string) error {
	digesting := make(chan struct{}, 1) // one at a time: each reads all of the store
	_, err := nc.Subscribe(wire.DigestSubject(node), func(m *nats.Msg) {
		go func() { // it only reads, and ends by itself
			digesting <- struct{}{}
			defer func() { <-digesting }()
			answerDigest(m, store)
		}()
	})
	return err
}

func answerDigest(m *nats.Msg, store string) {
	d, err := digest(m.Data, store)
	if err != nil {
		d.Error = err.Error()
	}
	if b, err := json.Marshal(d); err == nil {
		_ = m.Respond(b) // the caller is gone, or asks again
	}
}

func digest(question []byte, store string) (blocks.Digest, error) {
	var q blocks.DigestRange
	if err := json.Unmarshal(question, &q); err != nil || q.From == 0 || q.From > q.To || q.Every == 0 {
		return blocks.Digest{}, fmt.Errorf("durablestream: %q asks for no range", question)
	}
	if err := broker.CheckEngine(); err != nil {
		return blocks.Digest{}, fmt.Errorf("durablestream: %w", err)
	}
	dirs, err := blocks.Find(store)
	if err == nil && len(dirs) != 1 {
		err = fmt.Errorf("durablestream: this node has no copy of the log")
	}
	if err != nil {
		return blocks.Digest{}, err
	}
	return blocks.DigestOf(dirs[0], q)
}
