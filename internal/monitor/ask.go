package monitor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// healthWait is longer than the monitor takes at most, and shorter than what a
// container's health check is given.
const healthWait = 5 * time.Second

// AddrError is an address to ask that is none.
type AddrError struct {
	Addr string
	err  error
}

func (e *AddrError) Error() string {
	return fmt.Sprintf("ADDR %q: must be host:port or a URL: %v", e.Addr, e.err)
}

func (e *AddrError) Unwrap() error { return e.err }

// Ask asks the monitor at addr; ca is a PEM file of whom to trust, "" for the
// system's authorities.
func Ask(ctx context.Context, addr, ca string) (Health, error) {
	var h Health
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	transport := &http.Transport{DisableKeepAlives: true} // and no proxy: it is this machine
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return h, fmt.Errorf("cannot read the authorities to trust: %w", err)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return h, fmt.Errorf("%s holds no certificate in PEM", ca)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(addr, "/")+"/healthz", http.NoBody)
	if err != nil {
		return h, &AddrError{addr, err}
	}
	r, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		var request *url.Error // which names the address once more
		if errors.As(err, &request) {
			err = request.Err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %s", healthWait)
		}
		if errors.Is(err, http.ErrSchemeMismatch) {
			return h, fmt.Errorf("no health from %s: it does not speak https: ask http://%s", addr, req.URL.Host)
		}
		return h, fmt.Errorf("no health from %s: %w; is 'dstream serve --monitor' running there?", addr, err)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if r.StatusCode == http.StatusBadRequest && strings.Contains(string(body), "HTTPS server") {
		_ = r.Body.Close() // it was only read
		return h, fmt.Errorf("no health from %s: it speaks https there: ask https://%s, with --tls-ca for an authority of your own", addr, req.URL.Host)
	}
	if err = errors.Join(err, r.Body.Close()); err == nil {
		err = json.Unmarshal(body, &h)
	}
	if err == nil && (r.StatusCode == http.StatusOK) != (h.Status == "ok" && len(h.Reasons) == 0) {
		err = fmt.Errorf("status %d with health %q", r.StatusCode, h.Status)
	}
	if err != nil {
		return h, fmt.Errorf("%s does not answer as a monitor of dstream does: %w", addr, err)
	}
	return h, nil
}
