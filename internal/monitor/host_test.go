package monitor

import (
	"context"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is asked for under a name that is not the monitor's own gets no word from it.
func TestHost(t *testing.T) {
	t.Parallel()
	s, err := Start(Config{Listen: "127.0.0.1:0", Names: []string{"n1.example"}, Look: func(context.Context) Snapshot { return whole() }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	hostname, err := os.Hostname()
	require.NoError(t, err)
	ask := func(host, path string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+path, nil)
		require.NoError(t, err)
		r.Host = host
		a, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
		require.NoError(t, err)
		defer a.Body.Close()
		b := make([]byte, 10)
		n, _ := a.Body.Read(b)
		return a.StatusCode, string(b[:n])
	}
	for _, host := range []string{"localhost", "LOCALHOST:8222", "localhost.", "127.0.0.1", "127.0.0.1:1", "127.9.9.9", "[::1]:8222", "[::1]", "n1.example:8222", "N1.example.", hostname} {
		status, body := ask(host, "/metrics")
		require.Equal(t, http.StatusOK, status, host)
		require.NotEmpty(t, body, host)
	}
	for _, host := range []string{"evil.example", "evil.example:8222", "localhost.evil.example", "127.0.0.1.evil.example", "evil.n1.example", "192.0.2.1:8222", "[2001:db8::1]", "0.0.0.0", ":8222", "x"} {
		for _, path := range []string{"/", "/healthz", "/metrics", "/nothing"} {
			status, body := ask(host, path)
			require.Equal(t, http.StatusMisdirectedRequest, status, "%s%s", host, path)
			require.Empty(t, body, "%s%s", host, path)
		}
	}
}

// A monitor that listens at all addresses is called by each of them, and by no other name.
func TestHostOfAllAddresses(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:1", "[::]:1", ":1"} {
		o := ownNames(Config{Listen: listen})
		require.True(t, o.holds("192.0.2.1:8222"), listen)
		require.True(t, o.holds("[2001:db8::1]:8222"), listen)
		require.True(t, o.holds(""), "HTTP/1.0")
		require.False(t, o.holds("evil.example"), listen)
	}
	require.True(t, ownNames(Config{Listen: "monitor.example:1"}).holds("monitor.example"))
	require.True(t, ownNames(Config{Listen: "192.0.2.7:1"}).holds("192.0.2.7:1"))
	require.False(t, ownNames(Config{Listen: "192.0.2.7:1"}).holds("192.0.2.8:1"))
}
