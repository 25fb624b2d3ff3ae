package monitor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config says where to listen and whom to ask.
type Config struct {
	// Listen is host:port; port 0 is any free one. Required. Anything but a
	// loopback address needs Open.
	Listen string
	// Open allows an address that others can reach. What is told there names no
	// event, but anybody may read it.
	Open bool
	// Names are those by which others call this process, beside localhost, the host of
	// Listen, this machine's name and those in Cert.
	Names []string
	// Cert and Key are PEM files; with them the server speaks https. Default: http.
	Cert, Key string
	// Look gives the Snapshot of this moment, within its context. Required.
	Look func(context.Context) Snapshot
	// Logger hears of connections that went wrong. Default: discarded.
	Logger *slog.Logger
}

// Server answers /healthz and /metrics.
type Server struct {
	listener net.Listener
	http     *http.Server
	scheme   string
	cancel   context.CancelFunc
	done     chan struct{}
	once     sync.Once
	err      error
}

// Health is what /healthz answers, with status 200 where there is no reason
// against it and 503 where there is one.
type Health struct {
	Status  string   `json:"status"` // "ok" or "failing"
	State   State    `json:"state"`
	Node    string   `json:"node,omitempty"`
	Cluster string   `json:"cluster,omitempty"`
	Version string   `json:"version"`
	Reasons []Reason `json:"reasons"`
}

// Start listens. Its errors name the address and what is wrong with it.
func Start(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if err := CheckListen(cfg.Listen, cfg.Open); err != nil {
		return nil, err
	}
	s := &Server{scheme: "http", done: make(chan struct{})}
	own := ownNames(cfg)
	var tlsConfig *tls.Config
	if cfg.Cert != "" || cfg.Key != "" {
		pair, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
		if err != nil {
			return nil, fmt.Errorf("monitor: the certificate %s with the key %s cannot be used: %w", cfg.Cert, cfg.Key, err)
		}
		tlsConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		s.scheme = "https"
		own.names = append(own.names, pair.Leaf.DNSNames...)
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("monitor: cannot listen on %s: %w", cfg.Listen, err)
	}
	s.listener = l
	if tlsConfig != nil {
		l = tls.NewListener(l, tlsConfig)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.http = &http.Server{
		Handler:           own.only(handler(ctx, cfg.Look)),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			cfg.Logger.Error("the monitor has stopped", "err", err)
		}
	}()
	return s, nil
}

// URL is where it listens, such as http://127.0.0.1:8222.
func (s *Server) URL() string { return s.scheme + "://" + s.listener.Addr().String() }

// Stop ends the requests under way and stops listening. It may be called more than
// once.
func (s *Server) Stop() error {
	s.once.Do(func() {
		s.cancel()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.err = s.http.Shutdown(ctx); errors.Is(s.err, context.DeadlineExceeded) {
			s.err = s.http.Close() // a request that nobody reads
		}
		<-s.done
	})
	return s.err
}

// ListenError is a Config.Listen that is none, or must not be used.
type ListenError struct{ Listen, Rule string }

func (e *ListenError) Error() string {
	return fmt.Sprintf("monitor: listen address %q%s", e.Listen, e.Rule)
}

// CheckListen says with a *ListenError whether an address is one to listen on. open allows those that
// others can reach.
func CheckListen(listen string, open bool) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return &ListenError{listen, ": must be host:port, such as 127.0.0.1:8222"}
	}
	ip := net.ParseIP(host)
	if loopback := host == "localhost" || ip != nil && ip.IsLoopback(); !loopback && !open {
		return &ListenError{listen, " can be reached by others: it needs keys and TLS, or --insecure"}
	}
	return nil
}

func handler(ctx context.Context, look func(context.Context) Snapshot) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry(&collector{ctx, look}), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), scrapeWait)
		defer cancel()
		answerHealth(w, look(ctx))
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "Durable Stream: /healthz and /metrics\n")
	})
	return mux
}

func answerHealth(w http.ResponseWriter, s Snapshot) {
	h := Health{Status: "ok", State: s.State, Node: s.Node, Cluster: s.Cluster, Version: s.Version, Reasons: []Reason{}}
	status := http.StatusOK
	if len(s.Reasons) > 0 {
		h.Status, h.Reasons, status = "failing", s.Reasons, http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(h) // whoever asked has gone
}
