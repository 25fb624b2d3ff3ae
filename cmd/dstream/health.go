package main

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

	"github.com/spf13/cobra"

	"durablestream/internal/console"
	"durablestream/internal/monitor"
)

const (
	// healthWait is longer than the monitor takes at most, and shorter than what a
	// container's health check is given.
	healthWait = 5 * time.Second
)

func healthCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "health [ADDR]",
		Short: "Ask a process that was started with --monitor whether it does its work",
		Long: `Asks /healthz at ADDR (default ` + defaultMonitor + `), which is host:port or the
monitor's URL, and says what keeps the process from its work. Exit status 0 when it
is healthy, 1 when it is not or does not answer. It is the health check of the
container, whose image has no shell.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(fmt.Errorf("%s takes one ADDR at most, got %d arguments: see '%s --help'", cmd.CommandPath(), len(args), cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			addr := defaultMonitor
			if len(args) > 0 {
				addr = args[0]
			}
			h, err := askHealth(cmd.Context(), addr, o.tls.CA)
			if err != nil {
				return err
			}
			if o.json {
				err = printJSON(cmd.OutOrStdout(), h)
			} else {
				err = printHealth(cmd.OutOrStdout(), h)
			}
			if err == nil && len(h.Reasons) > 0 {
				return &exitError{code: exitFailed}
			}
			return err
		},
	}
}

// askHealth asks the monitor at addr; ca is a PEM file of whom to trust, "" for the
// system's authorities.
func askHealth(ctx context.Context, addr, ca string) (monitor.Health, error) {
	var h monitor.Health
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
		return h, usage(fmt.Errorf("ADDR %q: must be host:port or a URL: %w", addr, err))
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

func printHealth(w io.Writer, h monitor.Health) error {
	name := string(h.State)
	if h.Node != "" {
		name = h.Node + " (" + name + ")"
	}
	if len(h.Reasons) == 0 {
		_, err := fmt.Fprintf(w, "healthy: %s, version %s\n", name, h.Version)
		return err
	}
	for _, r := range h.Reasons {
		if _, err := fmt.Fprintf(w, "failing: %s: %s: %s\n", name, r.Name, console.OneLine(r.Message, 1000)); err != nil {
			return err
		}
	}
	return nil
}
