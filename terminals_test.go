package durablestream_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	patience = 60 * time.Second
	shownDir = "/home/dev/project" // the directory that documents show
	ended    = "::ended::"
)

// A desk is what a reader of a document works with: an empty directory, a shell with the
// program on its PATH, and further terminals, where commands are left running.
type desk struct {
	t         *testing.T
	bin, dir  string
	means     standsFor
	terminals map[string]*terminal
}

// A terminal is a bash that reads commands from a pipe.
type terminal struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu      sync.Mutex
	printed []string
	more    chan struct{} // closed when a line has been added, or the output has ended
	over    bool
	from    int // the first line of the command that was typed last
}

func newDesk(t *testing.T, bin string) *desk {
	root, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	d := &desk{t: t, bin: bin, dir: filepath.Join(root, "project"), means: standsFor{}, terminals: map[string]*terminal{}}
	require.NoError(t, os.Mkdir(d.dir, 0o700))
	t.Cleanup(d.leave)
	return d
}

func (d *desk) terminal(name string) *terminal {
	if term := d.terminals[name]; term != nil {
		return term
	}
	cmd := exec.Command("bash", "--norc", "--noprofile")
	cmd.Dir = d.dir
	repository, err := os.Getwd()
	require.NoError(d.t, err)
	cmd.Env = []string{"PATH=" + filepath.Dir(d.bin) + ":" + os.Getenv("PATH"), "HOME=" + filepath.Dir(d.dir), "REPOSITORY=" + repository, "TZ=UTC", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	require.NoError(d.t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(d.t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(d.t, cmd.Start())
	term := &terminal{cmd: cmd, in: in, more: make(chan struct{})}
	d.terminals[name] = term
	go term.read(out, strings.NewReplacer(d.dir, shownDir, filepath.Dir(d.dir), filepath.Dir(shownDir)))
	return term
}

func (term *terminal) read(out io.Reader, words *strings.Replacer) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		term.mu.Lock()
		if line != "" {
			term.printed = append(term.printed, words.Replace(strings.TrimSuffix(line, "\n")))
		}
		term.over = err != nil
		close(term.more)
		term.more = make(chan struct{})
		term.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// wait returns what the last command has printed as soon as enough says so, or the
// terminal has ended.
func (term *terminal) wait(enough func(printed []string) bool) ([]string, error) {
	late := time.After(patience)
	for {
		term.mu.Lock()
		printed, more, over := term.printed[term.from:], term.more, term.over
		term.mu.Unlock()
		if over || enough(printed) {
			return printed, nil
		}
		select {
		case <-more:
		case <-late:
			return printed, fmt.Errorf("still running after %s", patience)
		}
	}
}

// do carries out a step and returns what it printed. A further terminal's command is left
// running once it has printed as much as the step shows.
func (d *desk) do(s step) ([]string, error) {
	term := d.terminal(s.terminal)
	has := func(n int) func([]string) bool {
		return func(printed []string) bool { return len(printed) >= n }
	}
	if s.command != "" {
		term.mu.Lock()
		term.from = len(term.printed)
		term.mu.Unlock()
	}
	command := d.means.inCommand(s.command)
	if s.terminal != "" {
		if command != "" {
			_, err := fmt.Fprintf(term.in, "{ %s\n} </dev/null\n", command)
			require.NoError(d.t, err)
		}
		printed, err := term.wait(has(len(s.shown)))
		printed = printed[:min(len(printed), len(s.shown))]
		term.from += len(printed)
		return printed, err
	}
	// The mark stands on a line of its own whether or not the output ends with a line's end.
	_, err := fmt.Fprintf(term.in, "{ %s\n} </dev/null; printf '\\n%s\\n'\n", command, ended)
	require.NoError(d.t, err)
	printed, err := term.wait(func(printed []string) bool {
		return len(printed) > 0 && printed[len(printed)-1] == ended
	})
	printed = strings.Split(strings.TrimSuffix(strings.TrimSuffix(strings.Join(printed, "\n"), ended), "\n"), "\n")
	for len(printed) > 0 && printed[len(printed)-1] == "" {
		printed = printed[:len(printed)-1]
	}
	return printed, err
}

// leave interrupts what runs in the terminals, and waits until it has ended.
func (d *desk) leave() {
	for _, term := range d.terminals {
		_ = term.in.Close()
		_ = syscall.Kill(-term.cmd.Process.Pid, syscall.SIGINT)
	}
	for name, term := range d.terminals {
		kill := time.AfterFunc(patience, func() {
			d.t.Errorf("what runs in terminal %q does not end when it is interrupted", name)
			_ = syscall.Kill(-term.cmd.Process.Pid, syscall.SIGKILL)
		})
		_, _ = term.wait(func([]string) bool { return false })
		_ = term.cmd.Wait()
		kill.Stop()
	}
}
