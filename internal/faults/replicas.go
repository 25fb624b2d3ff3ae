package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/engine"
	"durablestream/internal/wire"
)

// Replica is one node's copy of the Log, read from a copy of its store while the node
// does not run. A server that is alone refuses a stream of three replicas, so it
// first makes one of its own, whose messages are then those of the node.
func Replica(ctx context.Context, n *Node, tmp string) (all []*jetstream.RawStreamMsg, err error) {
	dir, err := os.MkdirTemp(tmp, "replica")
	if err != nil {
		return nil, err
	}
	messages := engine.MessagesPath("", server.DEFAULT_GLOBAL_ACCOUNT, wire.LogName)
	err = withServer(dir, func(js jetstream.JetStream) error {
		_, err := js.CreateStream(ctx, wire.LogConfig(1, 0))
		return err
	})
	if err == nil {
		err = os.RemoveAll(filepath.Join(dir, messages))
	}
	if err == nil {
		err = os.CopyFS(filepath.Join(dir, messages), os.DirFS(filepath.Join(n.Dir, durablestream.HostDir, broker.StoreDir, messages)))
	}
	if err == nil {
		err = withServer(dir, func(js jetstream.JetStream) error { all, err = messagesOf(ctx, js); return err })
	}
	if err != nil {
		return nil, fmt.Errorf("faults: the store of %s: %w", n.Name, err)
	}
	return all, os.RemoveAll(dir)
}

// withServer runs f with a server on a store.
func withServer(dir string, f func(jetstream.JetStream) error) error {
	srv, err := server.NewServer(&server.Options{
		DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true, JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 30,
	})
	if err != nil {
		return err
	}
	srv.Start()
	defer func() { srv.Shutdown(); srv.WaitForShutdown() }()
	if !srv.ReadyForConnections(20 * time.Second) {
		return errors.New("no server comes up on it")
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return f(js)
}

func messagesOf(ctx context.Context, js jetstream.JetStream) (all []*jetstream.RawStreamMsg, err error) {
	s, err := js.Stream(ctx, wire.LogName)
	if err != nil {
		return nil, err
	}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			return nil, fmt.Errorf("position %d: %w", seq, err)
		}
		all = append(all, m)
	}
	return all, nil
}

// SameReplicas demands that the copies are the same, message by message.
func (v *Verdict) SameReplicas(names []string, copies [][]*jetstream.RawStreamMsg) {
	for i := range copies {
		if len(copies[i]) != len(copies[0]) {
			v.Problems = append(v.Problems, fmt.Sprintf("%s holds %d messages, and %s %d", names[0], len(copies[0]), names[i], len(copies[i])))
			continue
		}
		for seq := range copies[0] {
			a, b := copies[0][seq], copies[i][seq]
			if a.Subject != b.Subject || !bytes.Equal(a.Data, b.Data) || !a.Time.Equal(b.Time) || fmt.Sprint(a.Header) != fmt.Sprint(b.Header) {
				v.Problems = append(v.Problems, fmt.Sprintf("position %d is %s on %s and %s on %s", seq+1, a.Subject, names[0], b.Subject, names[i]))
				break
			}
		}
	}
}
