package address

import "os"

// Place is a directory, wherever it is moved.
type Place struct{ dir *os.File }

// Keep remembers the directory that is at path now. What cannot be opened is not found
// again.
func Keep(path string) Place {
	dir, _ := os.Open(path) // nil then
	return Place{dir}
}

// PlaceOf is the place of a directory that is open. Its owner closes it.
func PlaceOf(dir *os.File) Place { return Place{dir} }

// Now is where the directory is; "" where it was removed, or nobody can tell.
func (p Place) Now() string {
	if p.dir == nil {
		return ""
	}
	return whereNow(p.dir)
}

// Close forgets it. It may be called more than once.
func (p Place) Close() {
	if p.dir != nil {
		_ = p.dir.Close() // it was not even read
	}
}
