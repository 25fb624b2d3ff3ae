package freeport_test

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/freeport"
)

// The system gives none of these ports to anybody else, and no two calls give the same one.
func TestListen(t *testing.T) {
	t.Parallel()
	begins := 32768
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		first, _, _ := strings.Cut(string(b), "\t")
		begins, err = net.LookupPort("tcp", first)
		require.NoError(t, err)
	}
	seen := map[int]bool{}
	for range 50 {
		l, err := freeport.Listen()
		require.NoError(t, err)
		require.NoError(t, l.Close())
		port := l.Addr().(*net.TCPAddr).Port
		require.Less(t, port, begins)
		require.False(t, seen[port])
		seen[port] = true
	}
}
