package event

import (
	"bytes"
	"encoding/json"
)

// Marshal is json.Marshal without escaping HTML: for payloads and metadata, whose bytes
// stay as they are from the append on.
func Marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
