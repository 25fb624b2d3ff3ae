package monitor

import (
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
)

// own is how this monitor is called.
//
// A page in a browser on this machine may ask any name for data of its own origin. Whoever
// owns that name can point it to this address (DNS rebinding), and the page then reads what
// the monitor says. The request still carries the name, and that is none of ours.
type own struct {
	names []string
	any   bool // listens at all addresses: each is its own
}

func ownNames(cfg Config) own {
	host, _, _ := net.SplitHostPort(cfg.Listen) // checked before
	o := own{names: append(slices.Clone(cfg.Names), "localhost", host)}
	if name, err := os.Hostname(); err == nil {
		o.names = append(o.names, name)
	}
	ip := net.ParseIP(host)
	o.any = host == "" || ip != nil && ip.IsUnspecified()
	return o
}

// only answers 421 without a word to who asks for another name.
func (o own) only(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !o.holds(r.Host) {
			w.WriteHeader(http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// holds reports whether hostport, of a Host header, is a name or address of this monitor.
// Browsers always send one; what sends none, of HTTP/1.0, is none.
func (o own) holds(hostport string) bool {
	if hostport == "" {
		return true
	}
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if ip := net.ParseIP(host); ip != nil {
		same := func(name string) bool { return ip.Equal(net.ParseIP(name)) }
		return ip.IsLoopback() || o.any || slices.ContainsFunc(o.names, same)
	}
	return host != "" && slices.ContainsFunc(o.names, func(name string) bool { return strings.EqualFold(name, host) })
}
