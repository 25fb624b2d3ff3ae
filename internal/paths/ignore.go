package paths

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ignoreLine keeps the files out of version control. They change with each event: a
// tool that takes snapshots of the work tree with git, as OpenCode does for its undo,
// would log the log, and put an old one in its place.
const ignoreLine = "/durable_stream*.jsonl"

// Ignore sees to it that git leaves the files alone, where a work tree has them. A
// .gitignore that speaks of durable_stream in whatever way is left as it is. One that is a
// link is read, and not written through.
func Ignore(dir string) error {
	if !tracked(dir) {
		return nil
	}
	path := filepath.Join(dir, ignoreFile)
	have, err := ReadLinked(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		have = nil
		if filepath.Base(dir) == ".opencode" { // OpenCode writes these where there is no such file
			have = []byte("node_modules\npackage.json\npackage-lock.json\nbun.lock\n.gitignore\n")
		}
	case err != nil:
		return err
	case bytes.Contains(have, []byte("durable_stream")):
		return nil
	}
	if err := NoLink(path); err != nil {
		return fmt.Errorf("%w; or add the line %s to what it leads to", err, ignoreLine)
	}
	if n := len(have); n > 0 && have[n-1] != '\n' {
		have = append(have, '\n')
	}
	have = append(have, "# The log of Durable Stream. To keep it in git all the same: !"+ignoreLine+"\n"+ignoreLine+"\n"...)
	return os.WriteFile(path, have, 0o644)
}

// ignoreFile lists the files that git ignores.
const ignoreFile = ".gitignore"

// MakeHostDir creates the directory of a log's host, as MakeDir does, and keeps all of it
// out of version control before anything else is in it. It replaces an empty .gitignore,
// which a crash may have left, and no other.
func MakeHostDir(dir string) error {
	path := filepath.Join(dir, ignoreFile)
	if err := MakeDir(dir); err != nil {
		return err
	}
	if err := NoLink(path); err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil // a file that cannot be seen is not replaced
	}
	if err := os.WriteFile(path, []byte("*\n"), 0o600); err != nil {
		return fmt.Errorf("the host directory must be writable: %w", err)
	}
	return nil
}

// IgnoreSecrets adds pattern to the .gitignore of a directory in a work tree of git, where
// that does not end with it already. Its last line has the last word.
func IgnoreSecrets(dir, pattern string) error {
	if !tracked(dir) {
		return nil
	}
	path := filepath.Join(dir, ignoreFile)
	have, err := ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lines := bytes.TrimRight(have, "\n")
	if last := string(lines[bytes.LastIndexByte(lines, '\n')+1:]); last == pattern || last == "*" {
		return nil
	}
	add := pattern + "\n"
	if n := len(have); n > 0 && have[n-1] != '\n' {
		add = "\n" + add
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(add)
	return errors.Join(err, f.Close())
}

// tracked reports that a directory is in a work tree of git.
func tracked(dir string) bool {
	at, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	_, ok := FindRepository(at)
	return ok
}
