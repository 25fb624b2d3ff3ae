package roles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
)

// ListError is a key list that cannot be used.
type ListError struct {
	Path  string
	Entry string // which one, empty if it is about the whole file
	Rule  string
}

func (e *ListError) Error() string {
	s := "the key list " + e.Path
	if e.Entry != "" {
		s += ", " + e.Entry
	}
	return s + ": " + e.Rule
}

// list is the file.
type list struct {
	Keys []Key `json:"keys"`
}

// Read reads and checks a key list. A file that is not there is an error that
// wraps fs.ErrNotExist, a bad one a *ListError.
func Read(path string) ([]Key, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no key list %s: make a key with dstream keys make: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("the key list cannot be read: %w", err)
	}
	var l list
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return nil, &ListError{path, "", `must be JSON such as {"keys":[{"name":"planner","role":"agent","public":"U…"}]}: ` + err.Error()}
	}
	if err := Check(path, l.Keys); err != nil {
		return nil, err
	}
	return l.Keys, nil
}

// Check holds the keys of a list against its rules; path is named in the error, a
// *ListError.
func Check(path string, keys []Key) error {
	for i, k := range keys {
		entry := fmt.Sprintf("key %d (%s)", i+1, k.Name)
		rule := ""
		switch {
		case CheckName(k.Name) != nil:
			rule = CheckName(k.Name).Error()
		case !k.Role.Valid():
			rule = fmt.Sprintf("role %q must be agent, operator or admin", k.Role)
		case strings.HasPrefix(k.Public, "SU"):
			rule = "public holds a seed: it is a secret, and does not belong into the list. Make a new key"
		case !nkeys.IsValidPublicUserKey(k.Public):
			rule = fmt.Sprintf("public %q must be the public part of a user's nkey, U and 55 more letters and digits", k.Public)
		}
		for _, other := range keys[:i] {
			switch {
			case rule != "":
			case other.Name == k.Name:
				rule = "the name is there twice"
			case other.Public == k.Public:
				rule = "the key is that of " + other.Name + " too"
			}
		}
		if rule != "" {
			return &ListError{path, entry, rule}
		}
	}
	return nil
}

// CheckName refuses what cannot be the name of a key, and of its file.
func CheckName(name string) error {
	bad := strings.ContainsFunc(name, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("._@-", r)
	})
	if name == "" || len(name) > 64 || bad || name[0] == '.' || name[0] == '-' {
		return fmt.Errorf("the name %q must be 1 to 64 letters, digits or ._@-, the first none of .-", name)
	}
	return nil
}

// Write replaces a key list in one step. Its mode is 0644: it holds no secret.
func Write(path string, keys []Key) error {
	if err := Check(path, keys); err != nil {
		return err
	}
	keys = slices.Clone(keys)
	if keys == nil {
		keys = []Key{}
	}
	b, err := json.MarshalIndent(list{keys}, "", "  ")
	if err != nil {
		return fmt.Errorf("the key list %s: %w", path, err)
	}
	return replaceFile(path, append(b, '\n'), 0o644)
}

// replaceFile writes a file so that a reader, and whoever looks after a crash, sees
// the old one or the new one.
func replaceFile(path string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already after the rename
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}
