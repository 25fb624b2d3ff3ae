package address

import "os"

// Place is a directory, wherever it is moved.
type Place struct{ dir *os.File }

// Keep remembers the directory that is at path now. It cannot find a directory again that
// it could not open.
func Keep(path string) Place {
	dir, _ := os.Open(path) // nil then
	return Place{dir}
}

// PlaceOf is the place of a directory that is open. Its owner closes it.
func PlaceOf(dir *os.File) Place { return Place{dir} }

// Now is the directory's present path; "" if it was removed, or if the system does not
// know. A system may still name the path of a directory that was removed, or whose mount
// is gone. So Now returns the path only if the same directory is there.
func (p Place) Now() string {
	if p.dir == nil {
		return ""
	}
	now := whereNow(p.dir)
	there, err := os.Stat(now)
	here, herr := p.dir.Stat()
	if err != nil || herr != nil || !os.SameFile(there, here) {
		return ""
	}
	return now
}

// Close forgets it. It may be called more than once.
func (p Place) Close() {
	if p.dir != nil {
		_ = p.dir.Close() // it was not even read
	}
}
