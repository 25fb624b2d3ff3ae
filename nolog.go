package durablestream

import (
	"errors"
	"fmt"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/mirror"
)

// NoLogError says that Dir holds no log, where Config.NoCreate forbids to create one.
// errors.Is finds client.ErrNoLog in it.
type NoLogError struct {
	Dir    string
	Mirror bool // files lie where its mirror goes
}

func (e *NoLogError) Error() string {
	if e.Mirror {
		return fmt.Sprintf("there is no log in %s, only the files of a mirror: 'dstream restore' makes the log from them again, and 'dstream import --adopt' takes those of the original module", e.Dir)
	}
	return fmt.Sprintf("there is no log in %s; 'dstream serve' makes one, and --dir names another directory", e.Dir)
}

// Is makes this client.ErrNoLog, which it is on servers.
func (e *NoLogError) Is(target error) bool { return target == client.ErrNoLog }

// noLog says of the project's directory what the broker says of its own.
func (c Config) noLog(err error) error {
	var none *broker.NoLogError
	if !errors.As(err, &none) {
		return err
	}
	files, ferr := mirror.Files(c.Dir)
	return &NoLogError{Dir: c.Dir, Mirror: ferr != nil || len(files) > 0}
}
