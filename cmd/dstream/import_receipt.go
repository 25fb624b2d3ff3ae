package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/paths"
	"durablestream/internal/place"
)

// receiptFile lies in the directory of a log that another one has taken over.
const receiptFile = "imported.json"

// receipt says which log has taken over all events of this one, so that a repeated import
// can tell that there is nothing left to do. Logs that an earlier version took over have none.
type receipt struct {
	Log    string `json:"log"`    // identity of the log that has the events now
	Events int    `json:"events"` // of this log
}

func (r receipt) write(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, receiptFile), append(b, '\n'), 0o600)
}

// readReceipt returns the zero receipt where there is none, or a torn one.
func readReceipt(dir string) (r receipt) {
	b, err := os.ReadFile(filepath.Join(dir, receiptFile))
	if err != nil || json.Unmarshal(b, &r) != nil {
		return receipt{}
	}
	return r
}

// keptLogs are the logs of dir that others have taken over, where dir has no log any more; an
// error where it never had one.
func keptLogs(dir string) (kept []string, err error) {
	if paths.Exists(filepath.Join(dir, durablestream.HostDir, broker.StoreDir)) {
		return nil, nil
	}
	for n := 1; paths.Exists(keptLogName(dir, n)); n++ {
		kept = append(kept, keptLogName(dir, n))
	}
	if len(kept) > 0 {
		return kept, nil
	}
	if err := place.Demand(dir); err != nil {
		return nil, err
	}
	return nil, &durablestream.NoLogError{Dir: dir, Mirror: true}
}

// keptLogName is the n-th name for a log of dir that was taken over.
func keptLogName(dir string, n int) string {
	if n == 1 {
		return filepath.Join(dir, importedDir)
	}
	return fmt.Sprintf("%s-%d", filepath.Join(dir, importedDir), n)
}

// importedAlready answers a repeated import: a success that changes nothing where the receipts
// say that it is this log that has all events.
func importedAlready(cmd *cobra.Command, o *options, from string, kept []string) (err error) {
	a := importAnswer{Files: []string{from}, Damaged: []string{}, Kept: kept[len(kept)-1]}
	var receipts []receipt
	for _, path := range kept {
		r := readReceipt(path)
		receipts = append(receipts, r)
		a.Read += r.Events
	}
	a.Present = a.Read
	d, err := o.open(cmd, func(cfg *durablestream.Config) { cfg.NoCreate = true })
	if err != nil {
		return errors.Join(fmt.Errorf("there is no log in %s any more: another one has taken it over, and it is kept in %s", from, a.Kept), err)
	}
	defer closing(d, &err)
	for i, r := range receipts {
		if r.Log != d.Identity() {
			return fmt.Errorf("another log has taken it over already: it is kept in %s", kept[i])
		}
	}
	return a.tell(cmd, o)
}
