package faults

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/freeport"
)

// TestSoak appends at an even pace for a long time, while subscribers and queries
// come and go, and looks at what the host uses: nothing but the log may grow.
// DSTREAM_SOAK says how long (`make soak`); it is a measurement, and fails where
// goroutines, files or consumers have grown at its end.
func TestSoak(t *testing.T) {
	if os.Getenv("DSTREAM_SOAK") == "" {
		t.Skip("a measurement: make soak")
	}
	long, err := time.ParseDuration(os.Getenv("DSTREAM_SOAK"))
	require.NoError(t, err)
	bin := program(t)
	l, err := freeport.Listen()
	require.NoError(t, err)
	monitor := l.Addr().String()
	require.NoError(t, l.Close())
	s := NewHost(bin, filepath.Join(t.TempDir(), ".opencode"), "--monitor", monitor)
	host := s.Nodes[0]
	require.NoError(t, host.Start())
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	require.NoError(t, s.ready(t.Context()))

	idle := use(t, host.PID(), monitor)
	fmt.Printf("soak | idle | %v\n", idle)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	const rate, appenders = 500, 5
	var appended, came, seen atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, 100)
	each := func(f func(*client.Client, int) error) func(int) {
		return func(i int) {
			c, end, err := s.Client(ctx)
			if err == nil {
				err = f(c, i)
				end()
			}
			if err != nil && ctx.Err() == nil {
				failed <- err
			}
		}
	}
	appender := each(func(c *client.Client, i int) error {
		tick := time.NewTicker(time.Second * appenders / rate)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if _, err := c.Append(context.WithoutCancel(ctx), event.Event{Type: "soak.event", StreamID: fmt.Sprintf("s%d", i), Actor: "agent/soak",
				Payload: []byte(`{"note":"` + strings.Repeat("x", 200) + `"}`)}); err != nil {
				return err
			}
			appended.Add(1)
		}
	})
	// A visitor connects, follows or asks for a while, and goes.
	visitor := each(func(c *client.Client, _ int) error {
		came.Add(1)
		brief, done := context.WithTimeout(ctx, time.Duration(rand.IntN(3000))*time.Millisecond)
		defer done()
		at, err := c.Position(ctx)
		if err != nil {
			return err
		}
		if rand.IntN(2) == 0 {
			for _, err := range c.Query(ctx, event.Filter{StreamID: "s1", After: at - min(at, 2000)}) {
				if err != nil {
					return err
				}
				seen.Add(1)
			}
			return nil
		}
		for _, err := range c.Subscribe(brief, event.Filter{Types: []string{"soak.*"}, After: at}) {
			if err != nil {
				return nil // its time is up
			}
			seen.Add(1)
		}
		return nil
	})
	for i := range appenders {
		wg.Go(func() { appender(i) })
	}
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				visitor(0)
			}
		})
	}

	var first, last usage
	tick := time.NewTicker(long / 20)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case err := <-failed:
			require.NoError(t, err)
		case <-tick.C:
		}
		if ctx.Err() != nil || n == 20 {
			break
		}
		last = use(t, host.PID(), monitor)
		if n == 2 { // warm
			first = last
		}
		fmt.Printf("soak | %v | appended %d | visitors %d saw %d | %v\n", (long / 20 * time.Duration(n)).Round(time.Second), appended.Load(), came.Load(), seen.Load(), last)
	}
	cancel()
	wg.Wait()
	// When all visitors have gone, so have their consumers, at the latest after the
	// time that the server gives a reader that died.
	require.Eventually(t, func() bool { last = use(t, host.PID(), monitor); return last.consumers <= idle.consumers }, time.Minute, 200*time.Millisecond, "%v", last)
	fmt.Printf("soak | all have gone | %v\n", last)
	require.LessOrEqual(t, last.goroutines, first.goroutines)
	require.LessOrEqual(t, last.files, first.files+appended.Load()*400/(4<<20)+8, "files: the log's own blocks may be open")
}

// usage is what the host's process uses.
type usage struct {
	resident   int64 // bytes
	goroutines int64
	files      int64
	consumers  int64
}

func (u usage) String() string {
	return fmt.Sprintf("resident %.1f MB | goroutines %d | files %d | consumers %d", float64(u.resident)/1e6, u.goroutines, u.files, u.consumers)
}

func use(t *testing.T, pid int, monitor string) (u usage) {
	t.Helper()
	resp, err := http.Get("http://" + monitor + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "go_goroutines":
			u.goroutines = int64(n)
		case "durable_stream_consumers":
			u.consumers = int64(n)
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	u.files = int64(len(fds))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	require.NoError(t, err)
	var size int64
	_, err = fmt.Sscan(string(status), &size, &u.resident)
	require.NoError(t, err)
	u.resident *= int64(os.Getpagesize())
	return u
}
