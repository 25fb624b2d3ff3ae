package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/internal/console"
)

// api is the HTTP API of an OpenCode that runs.
type api struct {
	url       string
	directory string
}

// errNotFound is OpenCode's answer for what it does not know.
var errNotFound = errors.New("OpenCode does not know it")

// call calls the API. Its answers are small.
func (a api) call(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(b)
	}
	url := strings.TrimRight(a.url, "/") + path
	if a.directory != "" {
		url += "?directory=" + neturl.QueryEscape(a.directory)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		return usage(fmt.Errorf("--url %q: must be where OpenCode listens, such as http://127.0.0.1:4096: %w", a.url, err))
	}
	req.Header.Set("Content-Type", "application/json")
	if password := os.Getenv("OPENCODE_SERVER_PASSWORD"); password != "" {
		req.SetBasicAuth(cmp.Or(os.Getenv("OPENCODE_SERVER_USERNAME"), "opencode"), password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no OpenCode answers at %s: start one in the project, as with 'opencode serve --port 4096', and give its address with --url: %w", a.url, err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	switch {
	case res.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s %s: %w", method, url, errNotFound)
	case res.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%s wants a password: set OPENCODE_SERVER_PASSWORD", a.url)
	case res.StatusCode >= 300:
		return fmt.Errorf("%s %s: OpenCode answered %s: %s", method, url, res.Status, console.OneLine(string(b), 300))
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s is not an OpenCode of the kind that is known (1.18): %s answered %q", a.url, path, console.OneLine(string(b), 100))
	}
	return nil
}

// continueSession prompts an interrupted session again.
func continueSession(ctx context.Context, cmd *cobra.Command, o *options, d *durablestream.DurableStream, id, url string) error {
	s, err := leftBehind(ctx, o, d, id)
	if err != nil {
		return err
	}
	if !s.Interrupted {
		return fmt.Errorf("session %s has gone on since it was interrupted: prompt it in OpenCode", id)
	}
	a := api{url: url, directory: s.Directory}
	var known struct{ ID string }
	err = a.call(ctx, http.MethodGet, "/session/"+neturl.PathEscape(id), nil, &known)
	if errors.Is(err, errNotFound) || err == nil && known.ID != id {
		return fmt.Errorf("the OpenCode at %s has no session %s: start one in the project of this log", url, id)
	}
	if err != nil {
		return err
	}
	var status map[string]struct{ Type string }
	if err := a.call(ctx, http.MethodGet, "/session/status", nil, &status); err != nil {
		return err
	}
	if at := status[id].Type; at != "" && at != "idle" {
		return fmt.Errorf("session %s is at work in that OpenCode (%s)", id, at)
	}
	prompt := map[string]any{"parts": []any{map[string]string{"type": "text", "text": s.Continue()}}}
	if s.Agent != "" {
		prompt["agent"] = s.Agent
	}
	if err := a.call(ctx, http.MethodPost, "/session/"+neturl.PathEscape(id)+"/prompt_async", prompt, nil); err != nil {
		return err
	}
	return show(cmd, o, map[string]any{"continued": id, "url": url, "prompt": s.Continue()}, func(w io.Writer) error {
		fmt.Fprintf(w, "Session %s goes on in the OpenCode at %s.\n", id, url)
		return nil
	})
}
