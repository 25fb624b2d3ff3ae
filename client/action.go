package client

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"durablestream/internal/canonical"
)

// ActionHash is the lower-case hexadecimal SHA-256 of an action's canonical JSON:
// members sorted by name (byte order), no white space between tokens, strings with
// the fewest escapes, numbers as they are written. So the same action in another
// order of members has the same hash, and 1 and 1.0 are two actions: numbers are
// never rounded. A member given twice is refused, since readers differ on which
// one counts.
func ActionHash(action json.RawMessage) (string, error) {
	text, err := canonical.JSON(action)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
