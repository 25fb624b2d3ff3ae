package mirror

import (
	"errors"
	"os"
)

// IsProblem reports whether err is about the mirror's files, so that the Log itself
// can still be read.
func IsProblem(err error) bool {
	var damage *DamageError
	var torn *TornError
	var ahead *AheadError
	var behind *BehindError
	var foreign *ForeignError
	var original *OriginalError
	return errors.As(err, &damage) || errors.As(err, &torn) || errors.As(err, &ahead) ||
		errors.As(err, &behind) || errors.As(err, &foreign) || errors.As(err, &original)
}

// Size is the size of all files of the mirror in dir, in bytes.
func Size(dir string) (int64, error) {
	names, err := Files(dir)
	if err != nil {
		return 0, err
	}
	var total int64
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			total += info.Size()
		}
	}
	return total, nil
}
