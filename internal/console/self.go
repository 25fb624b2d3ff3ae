package console

import (
	"os"
	"path/filepath"
	"strings"
)

// Self is how a person calls this program from the current directory.
func Self() string {
	exe, err := os.Executable()
	if err != nil {
		return "dstream"
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if dir == filepath.Dir(exe) {
			return filepath.Base(exe)
		}
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, exe); err == nil && !strings.HasPrefix(rel, "..") {
			return "./" + rel
		}
	}
	return exe
}
