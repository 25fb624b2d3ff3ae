package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// alone is one host with a log of n events of three streams.
func alone(t *testing.T, n, pad int) (*System, *Node, *client.Client) {
	t.Helper()
	bin := program(t)
	s := NewHost(bin, filepath.Join(t.TempDir(), ".opencode"))
	s.Nodes = s.Nodes[:1]
	return s, s.Nodes[0], filled(t, s, n, pad)
}

// three is a cluster of three nodes with a log of n events.
func three(t *testing.T, n, pad int) (*System, *client.Client) {
	t.Helper()
	bin := program(t)
	dir := t.TempDir()
	s, err := NewCluster(bin, [3]string{filepath.Join(dir, "n1"), filepath.Join(dir, "n2"), filepath.Join(dir, "n3")})
	require.NoError(t, err)
	return s, filled(t, s, n, pad)
}

// filled starts a system and appends n events.
func filled(t *testing.T, s *System, n, pad int) *client.Client {
	t.Helper()
	require.NoError(t, s.Start())
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	require.NoError(t, s.ready(t.Context()))
	c, end, err := s.Client(t.Context())
	require.NoError(t, err)
	t.Cleanup(end)
	fill(t, c, n, pad)
	return c
}

func fill(t *testing.T, c *client.Client, n, pad int) {
	t.Helper()
	for i := 0; i < n; i += 100 {
		var batch []event.Event
		for k := i; k < min(n, i+100); k++ {
			batch = append(batch, event.Event{Type: "task.created", Actor: "agent/a", StreamID: fmt.Sprintf("s%d", k%3),
				Payload: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, k, strings.Repeat("x", pad))})
		}
		_, err := c.AppendBatch(t.Context(), batch)
		require.NoError(t, err)
	}
}

// bare demands what a consumer of the engine's own brings of a copy of a node's store, without
// an error.
func bare(t *testing.T, n *Node, want int) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(n.Dir, durablestream.HostDir, broker.StoreDir))))
	require.NoError(t, withServer(dir, func(js jetstream.JetStream) error {
		s, err := js.Stream(t.Context(), wire.LogName)
		require.NoError(t, err)
		cons, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
		require.NoError(t, err)
		got, err := cons.FetchNoWait(want + 10)
		require.NoError(t, err)
		brought := 0
		for range got.Messages() {
			brought++
		}
		require.NoError(t, got.Error())
		require.Equal(t, want, brought)
		return nil
	}))
}

// A byte that is changed in the middle of a stored block, under a running host: nobody
// leaves it out in silence.
func TestFlippedByteIsTold(t *testing.T) {
	longtest.Only(t, "a host is damaged under readers; TestScripts/damage of cmd/dstream reads a damaged log, and TestCheckedFileWithAChangedByte and TestFirstMessageOfABlockIsNotWritten of broker look at hosts of one")
	const n, at = 2000, 777
	s, host, c := alone(t, n, 300)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	live := make(chan error, 1)
	follower, end, err := s.Client(ctx)
	require.NoError(t, err)
	defer end()
	seen := make(chan struct{})
	go func() {
		k := 0
		for _, err := range follower.Subscribe(ctx, event.Filter{StreamID: "s1"}) {
			if err != nil {
				live <- err
				return
			}
			if k++; k == n/3 {
				close(seen)
			}
		}
	}()
	<-seen
	p, err := host.Find(at)
	require.NoError(t, err)
	require.NoError(t, p.Flip(p.Length/2))
	begun := time.Now()

	// From the first moment: all of it, as long as the engine has it in memory, or an error.
	var damage *client.DamageError
	told := func(f event.Filter, all int) {
		t.Helper()
		require.Eventually(t, func() bool {
			got, err := count(c.Query(ctx, f))
			if err == nil {
				require.Equal(t, all, got, "left out in silence")
				return false
			}
			require.ErrorAs(t, err, &damage)
			require.Equal(t, event.Sequence(at), damage.From)
			return true
		}, time.Minute, 20*time.Millisecond)
		t.Logf("%+v: %v after %v", f, damage, time.Since(begun))
	}
	told(event.Filter{StreamID: "s" + fmt.Sprint((at-1)%3)}, 666)
	told(event.Filter{}, n)
	_, err = count(c.Subscribe(ctx, event.Filter{Types: []string{"task.*"}}))
	require.ErrorAs(t, err, &damage)
	require.Equal(t, event.Sequence(at), damage.From)

	// The host finds it, and says so.
	require.Eventually(t, func() bool {
		out, code := host.Command(ctx, "status", "--json")
		return code == 1 && strings.Contains(out, `"store_damaged"`)
	}, time.Minute, 100*time.Millisecond)
	t.Logf("status: %v", time.Since(begun))
	out, code := host.Command(ctx, "query")
	require.Equal(t, 1, code)
	require.Contains(t, out, "position 777 cannot be read")
	out, code = host.Command(ctx, "mirror", "verify")
	require.Equal(t, 1, code)
	require.Contains(t, out, "damaged")
	out, code = host.Command(ctx, "tail", "--from", "start")
	require.Equal(t, 1, code)
	require.Contains(t, out, "position 777 cannot be read")

	// A subscriber that has read past it is told too, and one that is there for the new
	// events goes on.
	require.ErrorAs(t, <-live, &damage)
	t.Logf("subscriber: %v", time.Since(begun))

	// The engine alone: after a crash it also cuts off all that is whole behind it, and
	// calls it deleted.
	bare(t, host, at-1)
	require.NoError(t, s.Stop())
	bare(t, host, n-1)
}

func count(events func(func(event.Recorded, error) bool)) (n int, err error) {
	for _, e := range events {
		if e != nil {
			return n, e
		}
		n++
	}
	return n, nil
}

// What doctor --fix brings back is the log as it was: each event at its Sequence, byte for
// byte.
func TestDoctorMendsAHost(t *testing.T) {
	n, at := longtest.Pick[event.Sequence](900, 3000), event.Sequence(777)
	cases := []struct {
		name string
		kill bool // the host, before
		do   func(t *testing.T, host *Node)
		how  string
	}{
		{"a byte of an event, while the host runs", false, func(t *testing.T, host *Node) {
			p, err := host.Find(at)
			require.NoError(t, err)
			require.NoError(t, p.Flip(p.Length/2))
		}, "1 corrected"},
		{"a byte of a length, after a crash", true, func(t *testing.T, host *Node) {
			p, err := host.Find(at)
			require.NoError(t, err)
			require.NoError(t, p.Flip(1))
		}, "1 corrected"},
		{"a block that is cut off, while the host runs", false, func(t *testing.T, host *Node) {
			p, err := host.Find(at)
			require.NoError(t, err)
			require.NoError(t, p.Cut())
		}, "from the mirror"},
		{"the newest block, after a crash", true, func(t *testing.T, host *Node) {
			p, err := host.Find(n - 5)
			require.NoError(t, err)
			require.NoError(t, p.Flip(p.Length/2))
		}, "1 corrected"},
		{"the newest block cut off, after a crash", true, func(t *testing.T, host *Node) {
			p, err := host.Find(n - 5)
			require.NoError(t, err)
			require.NoError(t, p.Cut())
		}, "from the mirror"},
	}
	for _, c := range cases[:longtest.Pick(2, len(cases))] {
		t.Run(c.name, func(t *testing.T) {
			s, host, cl := alone(t, int(n), 4000)
			was, err := ReadLog(t.Context(), cl)
			require.NoError(t, err)
			require.Len(t, was, int(n))
			require.Eventually(t, func() bool { // the mirror has it all
				out, code := host.Command(t.Context(), "mirror", "verify")
				return code == 0 && strings.Contains(out, n.String())
			}, time.Minute, 50*time.Millisecond)
			if c.kill {
				host.Kill()
			}
			c.do(t, host)
			if !c.kill {
				require.Eventually(t, func() bool {
					out, _ := host.Command(t.Context(), "status", "--json")
					return strings.Contains(out, `"store_damaged"`)
				}, time.Minute, 100*time.Millisecond)
			}
			if strings.HasPrefix(c.name, "the newest") {
				out, code := host.Command(t.Context(), "status")
				require.Equal(t, 1, code, out) // and not a log that ends there
				t.Log(out)
			}
			out, code := host.Command(t.Context(), "doctor")
			require.Equal(t, 1, code, out)
			require.Contains(t, out, "the store cannot read")
			t.Log(out)
			out, code = host.Command(t.Context(), "doctor", "--fix", "--yes")
			t.Log(out)
			require.Zero(t, code)
			require.Contains(t, out, c.how)
			out, code = host.Command(t.Context(), "doctor")
			require.Zero(t, code, out)

			require.NoError(t, s.Start())
			require.NoError(t, s.ready(t.Context()))
			now, end, err := s.Client(t.Context())
			require.NoError(t, err)
			defer end()
			got, err := ReadLog(t.Context(), now)
			require.NoError(t, err)
			require.Equal(t, was, got)
			out, code = host.Command(t.Context(), "status")
			require.Zero(t, code, out)
			_, err = now.Append(t.Context(), event.Event{Type: "task.created", Actor: "agent/a", StreamID: "s", Payload: []byte(`{}`)})
			require.NoError(t, err)
		})
	}
}

// A node whose copy is damaged: readers are brought everything, by another node or by it
// once it has copied the log from the others.
func TestDoctorMendsANode(t *testing.T) {
	longtest.Only(t, "three processes are damaged in turn; TestDoctorMendsAHost and TestOneNodeLosesItsMetaGroup run")
	const n, at = 3000, 777
	s, c := three(t, n, 4000)
	was, err := ReadLog(t.Context(), c)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	for _, who := range []string{"a follower", "the leader"} {
		st, err := c.Admin().State(ctx)
		require.NoError(t, err)
		var node *Node
		for _, x := range s.Nodes {
			if (x.Name == st.Leader) == (who == "the leader") {
				node = x
			}
		}
		t.Logf("%s: %s", who, node.Name)
		p, err := node.Find(at)
		require.NoError(t, err)
		require.NoError(t, p.Flip(p.Length/2))
		begun := time.Now()
		told, refused := false, 0
		for !told { // from the first moment, whichever node a reader gets
			for _, f := range []event.Filter{{}, {StreamID: "s2"}, {StreamID: "s2", Limit: 500}, {After: at - 7, Limit: 20}} {
				got, err := count(c.Query(ctx, f))
				var damage *client.DamageError
				if errors.As(err, &damage) {
					refused++
					continue
				}
				require.NoError(t, err)
				want := map[string]int{"": n, "s2": n / 3}[f.StreamID]
				if f.Limit > 0 {
					want = f.Limit
				}
				require.Equal(t, want, got, "left out in silence")
			}
			require.Less(t, time.Since(begun), time.Minute)
			out, _ := node.Command(ctx, "status", "--json", "--server", strings.Join(s.servers, ","))
			told = strings.Contains(out, `"store_damaged"`)
		}
		t.Logf("status tells of it after %v; %d queries were refused by then", time.Since(begun), refused)
		for range 20 {
			got, err := count(c.Query(ctx, event.Filter{}))
			require.NoError(t, err)
			require.Equal(t, n, got)
		}

		out, code := node.Command(ctx, "doctor", "--fix", "--yes")
		require.Zero(t, code, out)
		t.Log(out)
		require.True(t, node.ended(time.Second))
		require.NoError(t, node.Start())
		require.Eventually(t, func() bool {
			out, code := node.Command(ctx, "status", "--server", strings.Join(s.servers, ","))
			if code != 0 {
				t.Log(out)
			}
			return code == 0
		}, 90*time.Second, time.Second)
		t.Logf("whole again after %v", time.Since(begun))
		got, err := ReadLog(ctx, c)
		require.NoError(t, err)
		require.Equal(t, was, got)
		require.Eventually(t, func() bool { return same(t, s) }, time.Minute, time.Second)
	}
}

// same tells whether all nodes hold the same records.
func same(t *testing.T, s *System) bool {
	t.Helper()
	var all [][]blocks.Record
	for _, n := range s.Nodes {
		dir, err := n.Blocks()
		require.NoError(t, err)
		files, err := blocks.List(dir)
		require.NoError(t, err)
		var records []blocks.Record
		for _, f := range files {
			bad, err := blocks.Walk(f.Path, f.Index, func(_ int64, _ []byte, r blocks.Record) error {
				r.Header, r.Data = bytes.Clone(r.Header), bytes.Clone(r.Data)
				records = append(records, r)
				return nil
			})
			if err != nil || len(bad) > 0 {
				return false
			}
		}
		all = append(all, records)
	}
	return reflect.DeepEqual(all[0], all[1]) && reflect.DeepEqual(all[0], all[2])
}
