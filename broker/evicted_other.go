//go:build !linux

package broker

import "os"

// pathOf is a path to a directory that is open.
func pathOf(dir *os.File) string { return dir.Name() }
