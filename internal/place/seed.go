package place

import (
	"fmt"
	"os"
	"path/filepath"

	"durablestream/internal/paths"
	"durablestream/internal/roles"
)

// Seed is where the seed of a key goes by default.
func Seed(list, name string, r roles.Role) (string, error) {
	if r == roles.Agent {
		return filepath.Join(filepath.Dir(list), "keys", name+".nk"), nil
	}
	if paths.Became() {
		return "", fmt.Errorf("where does the seed go? This command was started by root, and runs as the owner of the list %s: run it as that user, or give --out a file that the user may write", list)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("where does the seed go? %w: give --out", err)
	}
	return filepath.Join(dir, "durable_stream", name+".nk"), nil
}
