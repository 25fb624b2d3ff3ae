package legacy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// An adoption imports the file, gives it another name, and lets the mirror take its
// place. A crash leaves the file under its name, under both names, under the other alone,
// or with a mirror, perhaps a torn one, in its place. Each is a state in which the command
// can be repeated.

// Adopted gives the name under which the file of an adoption that came as far as to rename
// it is kept; "" where there is still a file to adopt.
func Adopted(path string) (string, error) {
	last := ""
	for n := 1; ; n++ {
		if _, err := os.Lstat(keptName(path, n)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
		last = keptName(path, n)
	}
	if last == "" {
		return "", nil
	}
	head, err := headOf(path)
	const ours = `{"seq":` // of each line of the mirror; a power cut may leave zeros
	if err != nil || len(head) > 0 && head[0] != 0 && head != ours[:min(len(head), len(ours))] {
		return "", err
	}
	return last, nil
}

// headOf gives the first bytes of a file; none where it is not there.
func headOf(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 7)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return string(head[:n]), err
}

// Keep renames an adopted file to a name that nothing else uses.
func Keep(path string) (string, error) {
	for n := 1; ; n++ {
		name := keptName(path, n)
		// Link fails where the name is taken, which rename would overwrite.
		err := os.Link(path, name)
		if errors.Is(err, fs.ErrExist) && !isSameFile(path, name) { // else an adoption ended here
			continue
		}
		if err == nil || errors.Is(err, fs.ErrExist) {
			err = os.Remove(path)
		}
		if err != nil {
			return "", fmt.Errorf("keep the original under another name: %w", err)
		}
		return name, nil
	}
}

// keptName is the n-th name for a file that was adopted.
func keptName(path string, n int) string {
	base := path[:len(path)-len(filepath.Ext(path))]
	if n == 1 {
		return base + ".original.jsonl"
	}
	return fmt.Sprintf("%s.original-%d.jsonl", base, n)
}

func isSameFile(a, b string) bool {
	x, err1 := os.Lstat(a)
	y, err2 := os.Lstat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}
