package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/console"
)

// onTerminal runs dstream with a terminal for standard output and error, and gives what
// the terminal was sent. stop, if not nil, ends the program once it says so.
func onTerminal(t *testing.T, stop func(seen string) bool, args ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminal here: ", err)
	}
	defer master.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	cmd := as(t, "dstream", nil, nil, args...)
	cmd.Stdout, cmd.Stderr = slave, slave
	require.NoError(t, cmd.Start())
	require.NoError(t, slave.Close())
	var seen strings.Builder
	for buf := make([]byte, 4096); ; {
		n, err := master.Read(buf)
		seen.Write(buf[:n])
		if stop != nil && stop(seen.String()) {
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			stop = nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO) { // the program has closed it
			break
		}
		require.NoError(t, err)
	}
	var status *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &status) {
		require.NoError(t, err)
	}
	return strings.ReplaceAll(seen.String(), "\r\n", "\n") // as the terminal's driver makes it
}

// Nothing of what an event brings reaches a terminal as a control character, whatever
// prints it; what is no terminal gets the exact bytes.
func TestTerminalIsSafe(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	// CSI and OSC of C1, DEL, a mark that turns text round, a filler, a tag, a line end.
	const evil = "a\u009b2J\u009d0;x\u009c\x7f\u202ergb\u3164\u2800\U000e0041\u2028z"
	quoted := string(event.AppendString(nil, evil))
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.NoError(t, err)
	r, err := d.Append(t.Context(), event.Event{Type: "task.created", StreamID: evil, Actor: evil, Payload: json.RawMessage(`{"t":` + quoted + `}`)})
	require.NoError(t, err)
	ask := func(id string) {
		_, err := d.Checkpoints().Request(t.Context(), client.CheckpointRequest{
			ID: id, StreamID: evil, RequestedBy: evil, DecisionPoint: evil, Options: []event.Option{{ID: evil, Label: evil}}, Action: json.RawMessage(quoted)})
		require.NoError(t, err)
	}
	ask("open")
	ask("done")
	_, err = d.Checkpoints().Approve(t.Context(), "done", client.Approval{By: "h" + evil, Option: evil, Comment: evil, Answer: json.RawMessage(quoted)})
	require.NoError(t, err)
	_, err = d.Intents().Create(t.Context(), client.IntentSpec{ID: "work", StreamID: evil, Actor: evil, Description: evil, Agent: evil, Prompt: evil})
	require.NoError(t, err)
	_, err = d.Intents().Claim(t.Context(), "work", "holder\u202e", 1<<40)
	require.NoError(t, err)
	require.NoError(t, d.Close())

	for _, args := range [][]string{
		{"query"}, {"append", "task.created", "--stream", "s", "--actor", evil, "--payload", quoted},
		{"checkpoint", "list", "--all"}, {"checkpoint", "list", "--json"}, {"checkpoint", "show", "open"}, {"checkpoint", "show", "done", "--json"}, {"checkpoint", "wait", "done"},
		{"checkpoint", "approve", "open", "--by", "h", "--option", "no" + evil}, {"checkpoint", "reject", "done", "--by", "h"}, {"checkpoint", "show", evil},
		{"intent", "list"}, {"intent", "list", "--json"}, {"intent", "show", "work"}, {"intent", "claim", "work", "--by", "other"},
		{"resume"}, {"resume", "--json"}, {"lineage", "--stream", evil}, {"lineage", r.ID, "--json"}, {"lineage", evil},
		{"status"}, {"doctor"}, {"mirror", "verify"}, {evil}, {"query", "--type", evil}, {"query", "--" + evil}, {"append", "--jsonl", evil}, {"import", evil},
	} {
		seen := onTerminal(t, nil, append([]string{"--dir", dir}, args...)...)
		require.NotEmpty(t, seen, args)
		for _, c := range seen {
			require.False(t, c != '\n' && c != '\t' && console.Hidden(c), "%q: %U in %q", args, c, seen)
		}
	}
	tail := onTerminal(t, func(seen string) bool { return strings.Contains(seen, "rgb") }, "--dir", dir, "tail", "--from", "1", "--stream", evil)
	require.Contains(t, tail, `a\u009b2J\u009d0;x\u009c\u007f\u202ergb\u3164\u2800\udb40\udc41\u2028z`)

	var line event.Recorded
	seen, _, _ := strings.Cut(onTerminal(t, nil, "--dir", dir, "query", "--limit", "1"), "\n")
	require.NoError(t, json.Unmarshal([]byte(seen), &line), seen)
	require.Equal(t, evil, line.Actor, "the same JSON")
	_, out, _ := dstream(t, "--dir", dir, "query", "--limit", "1")
	require.Equal(t, string(r.AppendJSON(nil))+"\n", out, "through a pipe, the exact bytes")
}

// Our own cursor movements still do what they do.
func TestTerminalIsDrawnOn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	drawn := onTerminal(t, func(seen string) bool { return strings.Contains(seen, "position") }, "--dir", dir, "serve")
	require.Contains(t, drawn, "\r\x1b[K0 events")
	require.NotContains(t, drawn, `\u001b`)
}
