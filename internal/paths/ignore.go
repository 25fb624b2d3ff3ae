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
	path := filepath.Join(dir, ".gitignore")
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

// tracked reports that a directory is in a work tree of git.
func tracked(dir string) bool {
	at, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	_, ok := FindRepository(at)
	return ok
}
