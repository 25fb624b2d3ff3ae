package paths

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// SpecialError reports a pipe, a socket, a device or a directory in the place of a log's
// own file. The program does not open it: the read of a pipe might never end.
type SpecialError struct{ Path string }

func (e *SpecialError) Error() string {
	return fmt.Sprintf("%s is no regular file, and nothing is read from it or written to it: move it away", e.Path)
}

// Open opens a log's own file to read it. It returns a *LinkError for a link, and a
// *SpecialError if it is not a regular file. It never blocks.
func Open(path string) (*os.File, error) {
	f, err := open(path, syscall.O_NOFOLLOW)
	if errors.Is(err, syscall.ELOOP) {
		if link := NoLink(path); link != nil {
			return nil, link
		}
	}
	return f, err
}

func open(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flag, 0)
	if errors.Is(err, syscall.ENXIO) { // a socket
		return nil, &SpecialError{path}
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &SpecialError{path}
	}
	if err != nil {
		_ = f.Close() // it was only looked at
		return nil, err
	}
	return f, nil
}

// ReadFile reads a file as Open opens it.
func ReadFile(path string) ([]byte, error) { return readAll(Open(path)) }

// ReadLinked is ReadFile for a file that may be a link, as one of a user's own.
func ReadLinked(path string) ([]byte, error) { return readAll(open(path, 0)) }

func readAll(f *os.File, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// special reports whether a file is neither a regular file, nor a directory, nor a link.
func special(mode fs.FileMode) bool {
	return !mode.IsRegular() && !mode.IsDir() && mode&fs.ModeSymlink == 0
}
