package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// whole is a Snapshot in which everything is known.
func whole() Snapshot {
	return Snapshot{
		State: Hosting, Version: "1.2.3", Format: 1, Engine: "v2", Node: "n1", Cluster: "ds",
		Log: &Log{Position: 12, Messages: 11, Missing: 1, Bytes: 345},
		Replicas: []Replica{
			{Name: "n1", Leader: true, Current: true}, {Name: "n2", Offline: true, Lag: 7},
		},
		Host:    &Host{Since: time.UnixMilli(1500), DiskFree: 10, DiskFloor: 20, DiskFull: true, Inodes: 5, InodeFloor: 6, Damaged: 3, Checked: time.UnixMilli(2500)},
		Mirror:  &Mirror{Running: true, Position: 10, Lines: 9, SetAside: 2},
		Sweeper: &Sweeper{Running: true},
	}
}

func start(t *testing.T, look func(context.Context) Snapshot) *Server {
	t.Helper()
	s, err := Start(Config{Listen: "127.0.0.1:0", Look: look})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	r, err := (&http.Client{Transport: tr}).Get(url)
	require.NoError(t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r.StatusCode, b
}

func TestHealthz(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[Snapshot]
	s := start(t, func(context.Context) Snapshot { return *now.Load() })

	good := whole()
	now.Store(&good)
	status, body := get(t, s.URL()+"/healthz")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"status":"ok","state":"host","node":"n1","cluster":"ds","version":"1.2.3","reasons":[]}`, string(body))

	bad := whole()
	bad.Reasons = []Reason{{"disk_full", "the disk is full"}}
	now.Store(&bad)
	status, body = get(t, s.URL()+"/healthz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	var h Health
	require.NoError(t, json.Unmarshal(body, &h))
	require.Equal(t, Health{"failing", Hosting, "n1", "ds", "1.2.3", bad.Reasons}, h)
}

// A look that hangs must not hold a health check up for ever.
func TestHealthzHasADeadline(t *testing.T) {
	t.Parallel()
	s := start(t, func(ctx context.Context) Snapshot {
		_, bounded := ctx.Deadline()
		if !bounded {
			return whole()
		}
		return Snapshot{Reasons: []Reason{{"bounded", ""}}}
	})
	status, _ := get(t, s.URL()+"/healthz")
	require.Equal(t, http.StatusServiceUnavailable, status)
}

func families(t *testing.T, text io.Reader) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	f, err := p.TextToMetricFamilies(text)
	require.NoError(t, err)
	return f
}

// Every metric is there where everything is known, and keeps Prometheus' rules for
// names, units and help.
func TestMetrics(t *testing.T) {
	t.Parallel()
	c := &collector{t.Context(), func(context.Context) Snapshot { return whole() }}
	problems, err := testutil.GatherAndLint(registry(c))
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Equal(t, len(all)+4, testutil.CollectAndCount(c), "each once, and four once more for the second replica")

	s := start(t, c.look)
	status, body := get(t, s.URL()+"/metrics")
	require.Equal(t, http.StatusOK, status)
	f := families(t, bytes.NewReader(body))
	for name, want := range map[string]float64{
		"position": 12, "messages": 11, "missing_positions": 1, "log_bytes": 345, "hosting": 1, "healthy": 1,
		"log_readable": 1, "host_start_time_seconds": 1.5, "disk_free_bytes": 10, "disk_floor_bytes": 20, "disk_free_inodes": 5, "disk_floor_inodes": 6, "disk_read_only": 0,
		"disk_refusing_appends": 1, "damaged_positions": 3, "store_checked_time_seconds": 2.5, "mirror_running": 1, "mirror_position": 10, "mirror_lag_positions": 2, "sweeper_running": 1,
	} {
		require.Contains(t, f, "durable_stream_"+name)
		require.InDelta(t, want, f["durable_stream_"+name].Metric[0].GetGauge().GetValue(), 1e-9, name)
	}
	require.InDelta(t, 9, f["durable_stream_mirror_lines_total"].Metric[0].GetCounter().GetValue(), 0)
	require.InDelta(t, 2, f["durable_stream_set_aside_messages_total"].Metric[0].GetCounter().GetValue(), 0)
	lag := f["durable_stream_replica_lag_positions"].Metric
	require.Len(t, lag, 2)
	require.Equal(t, "n2", lag[1].GetLabel()[0].GetValue())
	require.InDelta(t, 7, lag[1].GetGauge().GetValue(), 0)
	require.Contains(t, f, "go_goroutines")
}

// What is not known is left out: a mirror that is another process's has no lag of 0.
func TestMetricsOfAStandby(t *testing.T) {
	t.Parallel()
	s := start(t, func(context.Context) Snapshot {
		return Snapshot{State: Standby, Reasons: []Reason{{"log_unreadable", "no answer"}}, Replicas: []Replica{{Name: "n1", Unknown: true}}}
	})
	_, body := get(t, s.URL()+"/metrics")
	f := families(t, bytes.NewReader(body))
	for _, name := range []string{"position", "mirror_lag_positions", "disk_free_bytes", "sweeper_running", "missing_positions", "replica_current", "replica_lag_positions"} {
		require.NotContains(t, f, "durable_stream_"+name)
	}
	require.InDelta(t, 1, f["durable_stream_replica_online"].Metric[0].GetGauge().GetValue(), 0, "it answered")
	for _, name := range []string{"healthy", "hosting", "log_readable"} {
		require.InDelta(t, 0, f["durable_stream_"+name].Metric[0].GetGauge().GetValue(), 0, name)
	}
}

func TestCheckListen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listen string
		open   bool
		want   string
	}{
		{"127.0.0.1:0", false, ""},
		{"[::1]:8222", false, ""},
		{"localhost:8222", false, ""},
		{"0.0.0.0:8222", false, "can be reached by others"},
		{":8222", false, "can be reached by others"},
		{"monitor.example:8222", false, "can be reached by others"},
		{"0.0.0.0:8222", true, ""},
		{"8222", true, "must be host:port"},
	} {
		err := CheckListen(c.listen, c.open)
		if c.want == "" {
			require.NoError(t, err, c.listen)
		} else {
			require.ErrorContains(t, err, c.want, c.listen)
		}
	}
}

// An address that is taken, and a certificate that is none, are told by name.
func TestStartFails(t *testing.T) {
	t.Parallel()
	s := start(t, func(context.Context) Snapshot { return whole() })
	_, err := Start(Config{Listen: s.listener.Addr().String()})
	require.ErrorContains(t, err, "cannot listen on "+s.listener.Addr().String())
	_, err = Start(Config{Listen: "127.0.0.1:0", Cert: "nothere.pem", Key: "nothere.key"})
	require.ErrorContains(t, err, "nothere.pem")
}

// docs/operations.md names every metric.
func TestOperationsNamesEveryMetric(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	name := regexp.MustCompile(`fqName: "(\w+)"`)
	for _, d := range all {
		row := "| `" + name.FindStringSubmatch(d.String())[1]
		require.True(t, bytes.Contains(text, []byte(row+"`")) || bytes.Contains(text, []byte(row+"{")), row)
	}
}
