package paths

import (
	"os"
	"path/filepath"
)

// Absolute is path from the root on; path itself where the working directory is not known.
func Absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}

// Exists reports that something is there, be it a link that leads nowhere.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// IsDirectory reports that path is a directory, or a link to one.
func IsDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
