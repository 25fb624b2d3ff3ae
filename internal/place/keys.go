package place

import (
	"fmt"
	"os"
	"path/filepath"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/address"
	"durablestream/internal/paths"
	"durablestream/internal/roles"
)

// CheckKeyFiles demands, of files that a command of keys reads or writes, what a host
// demands of its own: that no symbolic link in the project leads elsewhere. dir is the
// log's directory.
func CheckKeyFiles(dir string, files ...string) error {
	host := filepath.Join(dir, durablestream.HostDir)
	for _, file := range files {
		if err := paths.NoProjectLink(dir, file); err != nil {
			return err
		}
		if !inHost(host, file) {
			continue
		}
		if err := broker.CheckLinks(paths.Absolute(host)); err != nil {
			return err
		}
	}
	return nil
}

// ReadKeys reads the key list at path. It follows no link that CheckKeyFiles refuses.
func ReadKeys(dir, path string) ([]roles.Key, error) {
	if err := CheckKeyFiles(dir, path); err != nil {
		return nil, err
	}
	return roles.Read(path)
}

// PrepareKeyFile creates the directory of a host if file is to be in it, as the host does:
// git must not see the file at any time. dir is the log's directory.
func PrepareKeyFile(dir, file string) error {
	host := paths.Absolute(filepath.Join(dir, durablestream.HostDir))
	if !inHost(host, file) {
		return nil
	}
	if err := paths.MakeDir(filepath.Dir(host)); err != nil {
		return err
	}
	if err := paths.MakeHostDir(host); err != nil {
		return err
	}
	return address.Tighten(host)
}

// inHost reports that file is below host, by any path.
func inHost(host, file string) bool {
	want, err := os.Stat(host)
	host = paths.Absolute(host)
	for at := paths.Absolute(file); at != filepath.Dir(at); at = filepath.Dir(at) {
		if at == host {
			return true
		}
		if have, herr := os.Stat(at); err == nil && herr == nil && os.SameFile(want, have) {
			return true
		}
	}
	return false
}

// PrepareSecrets creates the directory of secrets whose names match pattern, and has git
// ignore them in a work tree.
func PrepareSecrets(dir, pattern string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := paths.IgnoreSecrets(dir, pattern); err != nil {
		return fmt.Errorf("nothing secret is written into %s, since git cannot be told to ignore %s there: %w", dir, pattern, err)
	}
	return nil
}
