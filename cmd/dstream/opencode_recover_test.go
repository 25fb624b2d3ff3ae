package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/agents/opencode"
)

// fakeOpenCode answers as OpenCode 1.18.33 does where recover calls it, and keeps the
// prompts that it got. (The real one is run by make e2e.)
func fakeOpenCode(t *testing.T, knows, status string) (url string, prompts chan string) {
	t.Helper()
	prompts = make(chan string, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /session/status", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, status) })
	mux.HandleFunc("GET /session/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") != knows {
			http.Error(w, `{"name":"NotFoundError"}`, http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, `{"id":"`+knows+`"}`)
	})
	mux.HandleFunc("POST /session/{id}/prompt_async", func(w http.ResponseWriter, r *http.Request) {
		var p struct {
			Agent string
			Parts []struct{ Type, Text string }
		}
		if json.NewDecoder(r.Body).Decode(&p) != nil || len(p.Parts) != 1 {
			http.Error(w, "bad", http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
		prompts <- r.PathValue("id") + " " + p.Agent + " " + r.URL.Query().Get("directory") + "\n" + p.Parts[0].Text
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL, prompts
}

// The command that answers a question is one that works for that question.
func TestChoice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ question, want string }{
		{`{}`, ""},
		{`{"options":[{"id":"once"},{"id":"always"}]}`, " --option once   # or always"},
		{`{"options":[{"id":"Don't, please"}]}`, ` --option 'Don'\''t, please'`},
		{`{"schema":{"type":"array"}}`, " --answer JSON"},
		{
			`{"schema":{"type":"array"},"action":{"opencode":"question","questions":[{"options":[{"label":"EU"},{"label":"US"}]},{"options":[]}]}}`,
			` --answer '[["EU"],["your own words"]]'   # or other labels, or your own words`,
		},
	} {
		var q event.Checkpoint
		require.NoError(t, json.Unmarshal([]byte(c.question), &q))
		require.Equal(t, c.want, opencode.Choice(q))
	}
}

func TestOpencodeRecover(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	p := startPlugin(t, dir, "here:1")
	for _, e := range busEvents(t, "crash-before-restart") {
		p.event(e)
	}
	p.followed(t, human(t, dir))
	p.until(t, "the snapshots", func() bool { return len(p.open) == 0 })

	// While that OpenCode runs, nothing was interrupted.
	status, out, said := dstream(t, "--dir", dir, "opencode", "recover")
	require.Equal(t, 0, status, said)
	require.Contains(t, out, "No session of OpenCode was interrupted")
	require.Contains(t, out, "6 sessions at work in an OpenCode that runs")
	p.kill(t)

	status, out, said = dstream(t, "--dir", dir, "opencode", "recover")
	require.Equal(t, 0, status, said)
	for _, want := range []string{
		`"C slow": was interrupted`, "(cut off here)", `unknown outcome  bash "sleep 60`, "open question    per_", "sub-agent of     ses_", "did not end",
		`had to wait      bash "touch guarded-crash.txt"`, "recover --continue SESSION", "Answer a question: ", " --by YOU --option once   # or always",
	} {
		require.Contains(t, out, want)
	}
	require.NotContains(t, out, "at work in")

	status, out, said = dstream(t, "--dir", dir, "--json", "opencode", "recover")
	require.Equal(t, 0, status, said)
	var r opencode.Recovered
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Len(t, r.Sessions, 6)
	var perm, slow opencode.RecoveredSession
	for _, s := range r.Sessions {
		require.Equal(t, "over", s.Life)
		switch s.Title {
		case "C perm":
			perm = s
		case "C slow":
			slow = s
		}
	}

	// The next OpenCode is told the same.
	q := startPlugin(t, dir, "here:2")
	q.send("r", "opencode.recover", object{})
	m := <-q.reading
	var told opencode.Recovered
	require.NoError(t, json.Unmarshal(m.Result, &told), "%+v", m)
	require.Len(t, told.Sessions, 6)
	require.Contains(t, told.Story, "was interrupted")

	// Continued, on demand.
	url, prompts := fakeOpenCode(t, perm.ID, `{}`)
	status, out, said = dstream(t, "--dir", dir, "opencode", "recover", "--continue", perm.ID, "--url", url)
	require.Equal(t, 0, status, said)
	require.Contains(t, out, "goes on")
	prompt := <-prompts
	require.True(t, strings.HasPrefix(prompt, perm.ID+" build "+perm.Directory+"\n"), prompt)
	require.Contains(t, prompt, "was interrupted")
	require.Contains(t, prompt, perm.Prompt)
	require.Contains(t, prompt, `bash "touch guarded-crash.txt" waited for the user's answer`)

	for name, c := range map[string]struct {
		session, url, words string
		status              int
	}{
		"unknown session":    {"ses_none", url, "was not interrupted", 1},
		"of another project": {slow.ID, url, "has no session", 1},
		"nobody listens":     {perm.ID, "http://127.0.0.1:1", "opencode serve --port", 1},
		"no URL":             {perm.ID, "::", "must be where OpenCode listens", 2},
	} {
		status, _, said = dstream(t, "--dir", dir, "opencode", "recover", "--continue", c.session, "--url", c.url)
		require.Equal(t, c.status, status, name)
		require.Contains(t, said, c.words, name)
	}
	busy, _ := fakeOpenCode(t, perm.ID, `{"`+perm.ID+`":{"type":"busy"}}`)
	status, _, said = dstream(t, "--dir", dir, "opencode", "recover", "--continue", perm.ID, "--url", busy)
	require.Equal(t, 1, status)
	require.Contains(t, said, "is at work in that OpenCode")
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer other.Close()
	status, _, said = dstream(t, "--dir", dir, "opencode", "recover", "--continue", perm.ID, "--url", other.URL)
	require.Equal(t, 1, status)
	require.Contains(t, said, "is not an OpenCode")
	require.Empty(t, prompts, "nothing is continued without being asked for")

	// One is let rest, and is not told of again.
	status, out, said = dstream(t, "--dir", dir, "opencode", "recover", "--dismiss", perm.ID, "--by", "ann")
	require.Equal(t, 0, status, said)
	require.Contains(t, out, "1 question cancelled")
	status, out, said = dstream(t, "--dir", dir, "opencode", "recover")
	require.Equal(t, 0, status, said)
	require.NotContains(t, out, perm.ID)
	status, out, _ = dstream(t, "--dir", dir, "opencode", "recover", "--all")
	require.Equal(t, 0, status)
	require.Contains(t, out, perm.ID)
	q.end(t)

	for _, args := range [][]string{{"x"}, {"--continue", ""}, {"--continue", "a", "--dismiss", "b"}, {"--url", "x"}, {"--dismiss", "a"}} {
		status, _, said = dstream(t, append([]string{"--dir", dir, "opencode", "recover"}, args...)...)
		require.Equal(t, 2, status, "%v: %s", args, said)
	}
}
