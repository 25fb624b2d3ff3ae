// Package engine holds what this project knows of nats-server beyond its documented
// interface: the files of its store, its error codes, limits, defaults and timers.
//
// Nothing of that is promised by nats-server, so a new version may change any of it
// without notice. One conformance test checks each item against the nats-server that
// go.mod names, and Known lists the versions that passed. With any other version the
// store check, the scrub and the block index switch themselves off: what they read in
// the files could be wrong, and they would report healthy files as damaged.
//
// Other packages do not name these things themselves.
package engine

import (
	"fmt"
	"slices"
	"strings"
)

// known are the versions of nats-server whose files and limits this package describes.
// A version enters this list when the conformance test has passed with it.
var known = []string{"2.15.2", "2.15.3"}

// Pretend stands, if it is not empty, for the version of the nats-server in this program. Tests
// build a program with it:
//
//	go build -ldflags '-X durablestream/internal/engine.Pretend=2.99.0'
var Pretend string

// UnknownError is a version of nats-server that this program knows nothing about.
type UnknownError struct{ Version string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("this program knows the store files of nats-server %s, and not those of %s: "+
		"it does not check the store for damage and does not index it", strings.Join(known, ", "), e.Version)
}

// Check returns an *UnknownError for a version that is not known.
func Check(version string) error {
	if slices.Contains(known, version) {
		return nil
	}
	return &UnknownError{version}
}
