package otherlog

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/paths"
	"durablestream/internal/place"
)

// receiptFile lies in the directory of a log that another one has taken over.
const receiptFile = "imported.json"

// Receipt says which log has taken over all events of this one, so that a repeated import
// can tell that there is nothing left to do. Logs that an earlier version took over have none.
type Receipt struct {
	Log    string `json:"log"`    // identity of the log that has the events now
	Events int    `json:"events"` // of this log
}

func (r Receipt) write(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, receiptFile), append(b, '\n'), 0o600)
}

// ReadReceipt returns the zero receipt where there is none, or a torn one.
func ReadReceipt(dir string) (r Receipt) {
	b, err := os.ReadFile(filepath.Join(dir, receiptFile))
	if err != nil || json.Unmarshal(b, &r) != nil {
		return Receipt{}
	}
	return r
}

// Kept are the logs of dir that others have taken over, where dir has no log any more; an
// error where it never had one.
func Kept(dir string) (kept []string, err error) {
	if paths.Exists(filepath.Join(dir, durablestream.HostDir, broker.StoreDir)) {
		return nil, nil
	}
	for n := 1; paths.Exists(keptName(dir, n)); n++ {
		kept = append(kept, keptName(dir, n))
	}
	if len(kept) > 0 {
		return kept, nil
	}
	if err := place.Demand(dir); err != nil {
		return nil, err
	}
	return nil, &durablestream.NoLogError{Dir: dir, Mirror: true}
}

// keptName is the n-th name for a log of dir that was taken over.
func keptName(dir string, n int) string {
	if n == 1 {
		return filepath.Join(dir, importedDir)
	}
	return fmt.Sprintf("%s-%d", filepath.Join(dir, importedDir), n)
}
