package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"durablestream/internal/monitor"
	st "durablestream/internal/status"
)

// hosting starts `dstream serve` as a process and returns it when the pattern has
// come up in its words, with the pattern's first group.
func hosting(t *testing.T, dir string, until *regexp.Regexp, args ...string) (*exec.Cmd, string) {
	t.Helper()
	words := &syncBuffer{}
	cmd := as(t, "dstream", words, nil, append([]string{"--dir", dir, "serve"}, args...)...)
	require.NoError(t, cmd.Start())
	var found []string
	require.Eventually(t, func() bool {
		found = until.FindStringSubmatch(words.String())
		return found != nil
	}, 20*time.Second, 5*time.Millisecond, "%s", words)
	return cmd, found[1]
}

var monitorURL = regexp.MustCompile(`monitor (\S+)/healthz`)

// dstream runs a command line in this process.
func dstream(t *testing.T, args ...string) (status int, out, words string) {
	t.Helper()
	var o, w bytes.Buffer
	status = run(args, strings.NewReader(""), &o, &w)
	return status, o.String(), w.String()
}

// scrape asks a process for its metrics, by name.
func scrape(t *testing.T, url string) map[string]float64 {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	r, err := (&http.Client{Transport: tr}).Get(url + "/metrics")
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusOK, r.StatusCode)
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(r.Body)
	require.NoError(t, err)
	values := map[string]float64{}
	for name, f := range families {
		if len(f.Metric) == 1 {
			values[name] = f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue()
		}
	}
	return values
}

func TestMonitor(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	cmd, url := hosting(t, dir, monitorURL, "--monitor", "127.0.0.1:0")
	for range 3 {
		status, _, words := dstream(t, "--dir", dir, "append", "task.created", "--stream", "s", "--actor", "a")
		require.Zero(t, status, words)
	}
	status, out, words := dstream(t, "health", url)
	require.Zero(t, status, words)
	require.Contains(t, out, "healthy: host")

	require.Eventually(t, func() bool { return scrape(t, url)["durable_stream_mirror_lines_total"] == 3 }, 5*time.Second, 10*time.Millisecond)
	m := scrape(t, url)
	for name, want := range map[string]float64{
		"position": 3, "messages": 3, "missing_positions": 0, "hosting": 1, "healthy": 1, "log_readable": 1,
		"mirror_running": 1, "mirror_position": 3, "mirror_lag_positions": 0, "sweeper_running": 1,
		"disk_refusing_appends": 0, "disk_floor_bytes": 64 << 20, "set_aside_messages_total": 0, "build_info": 1,
	} {
		require.Contains(t, m, "durable_stream_"+name)
		require.InDelta(t, want, m["durable_stream_"+name], 0, name)
	}
	require.Positive(t, m["durable_stream_log_bytes"])
	require.Positive(t, m["durable_stream_disk_free_bytes"])
	require.InDelta(t, time.Now().Unix(), m["durable_stream_host_start_time_seconds"], 60)

	// The mirror stops where somebody writes into its file, and /healthz says so.
	file := filepath.Join(dir, "durable_stream.jsonl")
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(10))
	require.NoError(t, f.Close())
	status, _, words = dstream(t, "--dir", dir, "append", "task.created", "--stream", "s", "--actor", "a")
	require.Zero(t, status, words)
	require.Eventually(t, func() bool { status, out, _ = dstream(t, "health", "--json", url); return status == exitFailed }, 10*time.Second, 20*time.Millisecond)
	var h monitor.Health
	require.NoError(t, json.Unmarshal([]byte(out), &h))
	require.Equal(t, "failing", h.Status)
	require.Equal(t, st.AlarmMirror, h.Reasons[0].Name)
	require.Zero(t, scrape(t, url)["durable_stream_mirror_running"])

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait() // the mirror has stopped, which it says
	status, _, words = dstream(t, "health", url)
	require.Equal(t, exitFailed, status)
	require.Contains(t, words, "is 'dstream serve --monitor' running there?")
}

// A process that stands by is healthy, hosts nothing, and tells nothing of a mirror
// that is not its own; when it takes over, it does.
func TestMonitorOfAStandby(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	host, _ := hosting(t, dir, hostPID)
	words := &syncBuffer{}
	second := as(t, "dstream", words, nil, "--dir", dir, "serve", "--monitor", "127.0.0.1:0")
	require.NoError(t, second.Start())
	require.Eventually(t, func() bool { return monitorURL.MatchString(words.String()) }, 10*time.Second, 5*time.Millisecond)
	url := monitorURL.FindStringSubmatch(words.String())[1]

	status, out, w := dstream(t, "health", url)
	require.Zero(t, status, out+w)
	require.Contains(t, out, "healthy: standby")
	m := scrape(t, url)
	require.Zero(t, m["durable_stream_hosting"])
	require.Contains(t, m, "durable_stream_position")
	require.NotContains(t, m, "durable_stream_mirror_lag_positions")

	require.NoError(t, host.Process.Kill())
	require.Eventually(t, func() bool {
		m := scrape(t, url)
		return m["durable_stream_hosting"] == 1 && m["durable_stream_healthy"] == 1
	}, 10*time.Second, 10*time.Millisecond)
}

// What is no monitor is not taken for a healthy one.
func TestHealthOfSomethingElse(t *testing.T) {
	t.Parallel()
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })}
	l := listen(t)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	status, _, words := dstream(t, "health", l.Addr().String())
	require.Equal(t, exitFailed, status)
	require.Contains(t, words, "does not answer as a monitor of dstream does")
}

// Who asks in the wrong scheme is told the right one.
func TestHealthOfTheOtherScheme(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	_, _, words := dstream(t, "health", secure.Listener.Addr().String())
	require.Contains(t, words, "ask https://"+secure.Listener.Addr().String())
	open := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(open.Close)
	_, _, words = dstream(t, "health", "https://"+open.Listener.Addr().String())
	require.Contains(t, words, "ask http://"+open.Listener.Addr().String())
}

// The monitor is not shown to others by mistake.
func TestMonitorStaysOnTheLoopback(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	status, _, words := dstream(t, "--dir", dir, "serve", "--monitor", "0.0.0.0:0")
	require.Equal(t, exitUsage, status)
	require.Contains(t, words, "can be reached by others: it needs keys and TLS")
	require.NoDirExists(t, dir)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}
