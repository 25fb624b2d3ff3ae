package client

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"durablestream/internal/canonical"
)

// ActionHash returns the lower-case hexadecimal SHA-256 of an action's canonical JSON:
// members sorted by name (byte order), no white space between tokens, strings with the
// fewest escapes, numbers as written. The order of members does not change the hash.
// Numbers are never rounded, so 1 and 1.0 are two actions. A member given twice is an
// error, since readers differ on which one counts.
func ActionHash(action json.RawMessage) (string, error) {
	text, err := canonical.JSON(action)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
