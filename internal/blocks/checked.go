package blocks

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"durablestream/event"
	"durablestream/internal/paths"
)

// CheckedFile is in a host's store. It names the block files that were read and found
// whole, as they were then, so that the next process that hosts knows which were
// changed while nobody did, and which have gone, without reading them all again. What
// changes without a write, on the disk itself, is for the host's scrub.
const CheckedFile = "checked.json"

// Checked is what CheckedFile holds.
type Checked struct {
	Log    string         `json:"log"`            // when the Log was made: another one's blocks mean nothing
	Last   event.Sequence `json:"last,omitempty"` // that the store held at an orderly stop; 0: nobody knows
	Blocks []CheckedBlock `json:"blocks"`
	Sum    string         `json:"sum,omitempty"` // SHA-256 of the file without this field, in hex
}

// CheckedBlock is one block file that was whole.
type CheckedBlock struct {
	Index   uint32         `json:"index"`
	Size    int64          `json:"size"`
	Mod     int64          `json:"mod"` // Unix ns
	First   event.Sequence `json:"first"`
	Last    event.Sequence `json:"last"`
	Records uint64         `json:"records"`
	At      int64          `json:"at"` // when it was read, Unix ms
}

// Encode gives the bytes of a CheckedFile.
func (c Checked) Encode() ([]byte, error) {
	c.Sum = ""
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	c.Sum = hex.EncodeToString(sum[:])
	return json.Marshal(c)
}

// intact reports that a CheckedFile holds what Encode wrote, as far as its checksum tells:
// programs of the first format wrote none.
func (c Checked) intact() bool {
	raw, err := c.Encode()
	var again Checked
	return err == nil && json.Unmarshal(raw, &again) == nil && (c.Sum == "" || c.Sum == again.Sum)
}

// ReadChecked reads a CheckedFile about the blocks in dir. It returns the zero value if
// the file is missing or damaged, or describes another Log.
func ReadChecked(path, dir string) Checked {
	raw, err := paths.ReadFile(path)
	var c Checked
	_, made, bad := Stream(dir)
	if err != nil || bad != nil || json.Unmarshal(raw, &c) != nil || c.Log != made || !c.intact() {
		return Checked{}
	}
	return c
}
