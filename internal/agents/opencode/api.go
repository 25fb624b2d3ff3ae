package opencode

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
	"strings"
	"time"

	"durablestream/internal/console"
)

// API is the HTTP API of an OpenCode that runs.
type API struct {
	URL string
	// User and Password are sent where Password is not "".
	User, Password string

	directory string // of the project
}

// URLError is an API.URL that is none.
type URLError struct {
	URL string
	err error
}

func (e *URLError) Error() string {
	return fmt.Sprintf("%q: must be where OpenCode listens, such as http://127.0.0.1:4096: %v", e.URL, e.err)
}

func (e *URLError) Unwrap() error { return e.err }

// errNotFound is OpenCode's answer for what it does not know.
var errNotFound = errors.New("OpenCode does not know it")

// call calls the API. Its answers are small.
func (a API) call(ctx context.Context, method, path string, body, into any) error {
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
	url := strings.TrimRight(a.URL, "/") + path
	if a.directory != "" {
		url += "?directory=" + neturl.QueryEscape(a.directory)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		return &URLError{a.URL, err}
	}
	req.Header.Set("Content-Type", "application/json")
	if a.Password != "" {
		req.SetBasicAuth(cmp.Or(a.User, "opencode"), a.Password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no OpenCode answers at %s: start one in the project, as with 'opencode serve --port 4096', and give its address with --url: %w", a.URL, err)
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
		return fmt.Errorf("%s wants a password: set OPENCODE_SERVER_PASSWORD", a.URL)
	case res.StatusCode >= 300:
		return fmt.Errorf("%s %s: OpenCode answered %s: %s", method, url, res.Status, console.OneLine(string(b), 300))
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s is not an OpenCode of the kind that is known (1.18): %s answered %q", a.URL, path, console.OneLine(string(b), 100))
	}
	return nil
}

// Continue prompts an interrupted session again.
func (a API) Continue(ctx context.Context, s RecoveredSession) error {
	if !s.Interrupted {
		return fmt.Errorf("session %s has gone on since it was interrupted: prompt it in OpenCode", s.ID)
	}
	a.directory = s.Directory
	var known struct{ ID string }
	err := a.call(ctx, http.MethodGet, "/session/"+neturl.PathEscape(s.ID), nil, &known)
	if errors.Is(err, errNotFound) || err == nil && known.ID != s.ID {
		return fmt.Errorf("the OpenCode at %s has no session %s: start one in the project of this log", a.URL, s.ID)
	}
	if err != nil {
		return err
	}
	var status map[string]struct{ Type string }
	if err := a.call(ctx, http.MethodGet, "/session/status", nil, &status); err != nil {
		return err
	}
	if at := status[s.ID].Type; at != "" && at != "idle" {
		return fmt.Errorf("session %s is at work in that OpenCode (%s)", s.ID, at)
	}
	prompt := map[string]any{"parts": []any{map[string]string{"type": "text", "text": s.Continue()}}}
	if s.Agent != "" {
		prompt["agent"] = s.Agent
	}
	return a.call(ctx, http.MethodPost, "/session/"+neturl.PathEscape(s.ID)+"/prompt_async", prompt, nil)
}
