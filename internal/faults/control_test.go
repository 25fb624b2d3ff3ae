package faults

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/freeport"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// A control is a run in which something is done that must not be done: it fails if
// the checkers do not object.

// Whoever sends a publish that was not answered again, under a new id, stores twice.
func TestControlBlindRetry(t *testing.T) {
	bin := program(t)
	s := NewHost(bin, filepath.Join(t.TempDir(), ".opencode"))
	require.NoError(t, s.Start())
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	require.NoError(t, s.ready(t.Context()))
	c, end, err := s.Client(t.Context())
	require.NoError(t, err)
	defer end()
	h := NewHistory()
	a := &agent{Load: &Load{History: h, BlindRetry: true}, c: c}
	a.append(t.Context(), "s") // connected
	n, err := s.Leader(t.Context())
	require.NoError(t, err)
	for range 5 { // a host that stands still answers later than anybody waits
		n.Signal(syscall.SIGSTOP)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			a.append(impatient, "s")
		}()
		pause(t.Context(), 300*time.Millisecond)
		n.Signal(syscall.SIGCONT)
		<-ended
	}
	log, err := ReadLog(t.Context(), c)
	require.NoError(t, err)
	v := Check(h.Ops(), log)
	t.Log(v.Problems)
	require.NotZero(t, v.Twice)
}

// A direct get is answered by any replica, and so by one that has not heard yet: here
// by that of the node that the reader is connected to, which hears a little late.
func TestControlDirectReads(t *testing.T) {
	cl, links := brokertest.StartLinkedCluster(t)
	leader := cl.Leader()
	follower := (leader + 1) % 3
	links.Delay(leader, follower, 10*time.Millisecond)
	js, err := jetstream.New(cl.ConnectTo(t, leader))
	require.NoError(t, err)
	reader, err := jetstream.New(cl.ConnectTo(t, follower))
	require.NoError(t, err)
	log, err := reader.Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	require.True(t, log.CachedInfo().Config.AllowDirect)
	h := NewHistory()
	const name = "read"
	subject := wire.GuardSubject(event.GuardUser, name)
	last := event.Sequence(0)
	for i := range 200 {
		op := Op{Client: 1, Kind: Guarded, Key: name, IDs: []string{strconv.Itoa(i)}, Expected: last, Call: h.Now(), Outcome: Done}
		ack, err := js.Publish(t.Context(), subject, nil, jetstream.WithExpectLastSequencePerSubject(uint64(last)))
		require.NoError(t, err)
		last = event.Sequence(ack.Sequence)
		op.Seqs, op.Return = []event.Sequence{last}, h.Now()
		h.Add(op)

		look := Op{Client: 1, Kind: Look, Key: name, Call: h.Now(), Outcome: Done, Seqs: []event.Sequence{0}}
		if m, err := log.GetLastMsgForSubject(t.Context(), subject); err == nil { // else not even the first one is there
			look.Seqs[0] = event.Sequence(m.Sequence)
		}
		look.Return = h.Now()
		h.Add(look)
	}
	v := &Verdict{}
	v.linearizable(resolve(h.Ops(), nil, nil))
	t.Log(v.Problems)
	require.NotZero(t, v.NotLinearizable)
}

// An expected Sequence on a wildcard does not see what is in flight: two win.
func TestControlWildcardGuard(t *testing.T) {
	js, err := jetstream.New(brokertest.StartCluster(t).Connect(t))
	require.NoError(t, err)
	h := NewHistory()
	for i := range 100 {
		key := fmt.Sprintf("w%d", i)
		publish := func(id string, who int, guard string) <-chan struct{} {
			op := Op{Client: who, Kind: Decide, Key: key, IDs: []string{id}, Call: h.Now()}
			m := nats.NewMsg(wire.GuardSubject(event.GuardUser, key) + "." + id)
			if guard != "" {
				m.Header.Set("Nats-Expected-Last-Subject-Sequence", "0")
				m.Header.Set("Nats-Expected-Last-Subject-Sequence-Subject", guard)
			}
			ack, err := js.PublishMsgAsync(m)
			require.NoError(t, err)
			done := make(chan struct{})
			go func() {
				defer close(done)
				select {
				case a := <-ack.Ok():
					op.Outcome, op.Seqs = Done, []event.Sequence{event.Sequence(a.Sequence)}
				case err := <-ack.Err():
					op.Outcome, op.Err = Refused, err.Error()
				}
				op.Return = h.Now()
				h.Add(op)
			}()
			return done
		}
		first := publish("a", 1, "")
		second := publish("b", 2, wire.GuardSubject(event.GuardUser, key)+".*")
		<-first
		<-second
	}
	v := &Verdict{}
	v.linearizable(resolve(h.Ops(), nil, nil))
	t.Logf("%d of 100 rounds had two winners", v.NotLinearizable)
	require.NotZero(t, v.NotLinearizable)
}

// The engine as it comes acknowledges before it syncs: a power cut takes that away.
func TestControlDefaultSync(t *testing.T) {
	longtest.Only(t, "it builds nats-server; TestPowerCutWithoutSync of broker is such a control")
	disks, why := MakeDisks(t.TempDir(), 1, 256<<20)
	if why != nil {
		t.Skipf("skipped: %v", why)
	}
	t.Cleanup(func() { require.NoError(t, Unmount(disks)) })
	bin := filepath.Join(t.TempDir(), "nats-server")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/nats-io/nats-server/v2").CombinedOutput()
	require.NoError(t, err, "%s", out)
	l, err := freeport.Listen()
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	var proc *exec.Cmd
	start := func() jetstream.JetStream {
		proc = exec.Command(bin, "-a", "127.0.0.1", "-p", port, "-js", "-sd", filepath.Join(disks[0].Dir(), "js"))
		require.NoError(t, proc.Start())
		var nc *nats.Conn
		require.Eventually(t, func() bool { nc, err = nats.Connect("nats://" + addr); return err == nil }, 20*time.Second, 10*time.Millisecond)
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		return js
	}
	kill := func() { _, _ = proc.Process.Kill(), proc.Wait() }
	t.Cleanup(func() { kill() })

	js := start()
	_, err = js.CreateStream(t.Context(), wire.LogConfig(1, 0))
	require.NoError(t, err)
	h := NewHistory()
	for i := range 1000 {
		id := fmt.Sprintf("e%d", i)
		op := Op{Kind: Append, Key: "s", IDs: []string{id}, Call: h.Now(), Outcome: Done}
		ack, err := js.PublishMsg(t.Context(), wire.Encode(event.Recorded{Event: event.Event{
			ID: id, Type: "fault.event", StreamID: "s", Actor: "a", CorrelationID: "c", Payload: fmt.Appendf(nil, `{"n":%d}`, i)}}))
		require.NoError(t, err)
		op.Seqs, op.Return = []event.Sequence{event.Sequence(ack.Sequence)}, h.Now()
		h.Add(op)
	}
	require.NoError(t, disks[0].cut())
	kill()
	require.NoError(t, disks[0].remount())
	js = start()
	var log []Stored
	if s, err := js.Stream(t.Context(), wire.LogName); err == nil {
		for seq := s.CachedInfo().State.FirstSeq; seq > 0 && seq <= s.CachedInfo().State.LastSeq; seq++ {
			m, err := s.GetMsg(t.Context(), seq)
			if err != nil {
				continue
			}
			r, err := wire.Decode(m.Subject, m.Data, event.Sequence(seq))
			require.NoError(t, err)
			log = append(log, Stored{Seq: r.Seq, Subject: m.Subject, Event: r})
		}
	} else {
		t.Logf("the stream did not come back: %v", err)
	}
	v := Check(h.Ops(), log)
	t.Logf("%d of %d acknowledged events were lost", v.Lost, v.Acknowledged)
	require.NotZero(t, v.Lost)
	kill()
	_ = os.Remove(bin)
}
