package durablestream

import (
	"errors"
	"fmt"
	"path/filepath"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/mirror"
)

// NoLogError is a Dir without a log, in which this process may create none:
// Command.NoCreate forbids it, or Dir had a log before. errors.Is finds client.ErrNoLog
// in it.
type NoLogError struct {
	Dir    string
	Mirror bool // there are files in the mirror's place
	Lost   bool // the log was hosted in Dir, and its store is gone
}

func (e *NoLogError) Error() string {
	if e.Lost {
		host := filepath.Join(e.Dir, HostDir)
		back, files := "", ""
		if e.Mirror {
			back = ", or let 'dstream doctor --fix' make the log again from the mirror's files"
			files = "the mirror's files and "
		}
		return fmt.Sprintf("the log in %s is gone: it was hosted there, as %s says, and %s holds none of it; no other one is made in its place: put the store back%s; to begin a new log, move %s%s away",
			e.Dir, filepath.Join(host, broker.HomeFile), filepath.Join(host, broker.StoreDir), back, files, filepath.Join(host, broker.HomeFile))
	}
	if e.Mirror {
		return fmt.Sprintf("there is no log in %s, only the files of a mirror: 'dstream restore' makes the log from them again, and 'dstream import --adopt' takes those of the original module", e.Dir)
	}
	return fmt.Sprintf("there is no log in %s; 'dstream serve' makes one, and --dir names another directory", e.Dir)
}

// Is matches client.ErrNoLog, the error of the same case on servers.
func (e *NoLogError) Is(target error) bool { return target == client.ErrNoLog }

// noLog returns the broker's error for the project's directory. If a link would keep a
// host from creating the log, the error says so.
func (c Config) noLog(err error) error {
	var none *broker.NoLogError
	if !errors.As(err, &none) {
		return err
	}
	if err := broker.CheckLinks(filepath.Join(c.Dir, HostDir)); err != nil {
		return err
	}
	files, ferr := mirror.Files(c.Dir)
	return &NoLogError{Dir: c.Dir, Mirror: ferr != nil || len(files) > 0, Lost: none.Lost}
}
