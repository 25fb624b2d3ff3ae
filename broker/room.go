package broker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/paths"
	"durablestream/internal/wire"
)

// Lack is what keeps the engine from writing its next block file.
type Lack string

// What a disk, or a process, may lack.
const (
	LackNothing  Lack = ""
	LackSpace    Lack = "space"     // bytes
	LackInodes   Lack = "inodes"    // the file system takes no more files
	LackQuota    Lack = "quota"     // of the user or the project
	LackFileSize Lack = "file_size" // RLIMIT_FSIZE of this process is under a block's size
	LackWriting  Lack = "writing"   // the file system or the directory is read-only
	LackBatch    Lack = "batch"     // the rest of the batch with a part of which the Log ends
)

const (
	// blockSize is the size of the engine's block files: 8 MiB, or a little more where
	// one message of MaxPayload fills the block.
	blockSize = engine.BlockSize + 64<<10
	// roomSize is the free space under which no file of that size is tried: the trial
	// must leave something for those who write meanwhile.
	roomSize = 2 * blockSize
	// mostInodes is the floor of free inodes on any large file system: a block file, its
	// index and a mirror file take one each, and each batch that is under way takes five.
	mostInodes = 256
)

// room is what a file system says of itself.
type room struct {
	free     int64 // bytes
	inodes   int64 // free; -1: the file system has no limit of its own
	files    int64 // inodes, used and free
	readOnly bool
}

// roomOf asks the file system of dir.
func roomOf(dir string) (room, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return room{}, err
	}
	r := room{
		free:     int64(st.Bavail) * int64(st.Bsize), //nolint:unconvert // Bsize is an int32 on other systems
		inodes:   -1,
		readOnly: readOnly(&st),
	}
	// btrfs and others make inodes as they are needed and report none; some network file
	// systems report more free ones than there are.
	if st.Files > 0 && st.Ffree <= st.Files {
		r.inodes, r.files = int64(st.Ffree), int64(st.Files)
	}
	if r.inodes == 0 && try(dir) == nil { // what it reports is not true
		r.inodes, r.files = -1, 0
	}
	return r, nil
}

// inodeFloor is how many inodes must be free: fewer on a small file system, where the
// log's own first files are a considerable part.
func (r room) inodeFloor() int64 { return min(mostInodes, r.files/8) }

// lacks is what r has too little of. refusing adds a margin, so that the answer does not
// flap once appends are refused.
func (r room) lacks(floor int64, refusing bool) Lack {
	inodes := r.inodeFloor()
	if refusing {
		floor, inodes = floor+floor/4, inodes+inodes/4
	}
	switch {
	case r.readOnly:
		return LackWriting
	case r.free < floor:
		return LackSpace
	case r.inodes >= 0 && r.inodes < inodes:
		return LackInodes
	case fileSizeLimit() < blockSize:
		return LackFileSize
	}
	return LackNothing
}

// fileSizeLimit is the largest file that this process may write.
func fileSizeLimit() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &l); err != nil {
		return 1 << 63
	}
	return l.Cur
}

// lackOf sorts the errors of a write. It returns LackNothing for errors that more room
// does not end, such as a failing disk's, and for nil.
func (r room) lackOf(err error) Lack {
	switch {
	case errors.Is(err, syscall.ENOSPC) && r.inodes == 0:
		return LackInodes
	case errors.Is(err, syscall.ENOSPC):
		return LackSpace
	case errors.Is(err, syscall.EDQUOT):
		return LackQuota
	case errors.Is(err, syscall.EFBIG):
		return LackFileSize
	case errors.Is(err, syscall.EROFS), errors.Is(err, os.ErrPermission):
		return LackWriting
	}
	return LackNothing
}

// ProbeFile is made in the stream's directory, where the engine reads nothing but the
// names that it knows.
const ProbeFile = "room.probe"

// probe makes a file of a block's size in dir, and removes it. The file loses its name
// before it grows: a crash leaves at most an empty file, which the next start removes. With
// sync the disk has taken the file, too.
func probe(dir string, sync bool) error {
	path := filepath.Join(dir, ProbeFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(path); err != nil {
		return err
	}
	err = reserve(f, blockSize)
	if errors.Is(err, errors.ErrUnsupported) {
		err = write(f, blockSize)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	return err
}

// write fills a file with what no file system can compress.
func write(f *os.File, size int) error {
	random := rand.NewChaCha8([32]byte{})
	buf := make([]byte, 256<<10)
	for size > 0 {
		n := min(size, len(buf))
		_, _ = random.Read(buf[:n]) // never fails
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

// streamDir is where the engine writes the Log; the store, while there is none yet. It leads
// by the open directory: another's in its place is not written to.
func (b *Broker) streamDir() string {
	store := pathOf(b.store)
	dir := filepath.Dir(blocks.Dir(store, b.cfg.account()))
	if _, err := os.Stat(dir); err != nil {
		return store
	}
	return dir
}

// UnwritableError is a log in whose directory no host can run, because it, or its disk,
// cannot be written.
type UnwritableError struct {
	Dir string // of the host
	Err error  // of the attempt to write there
}

func (e *UnwritableError) Error() string {
	return fmt.Sprintf("%s; commands that read, such as query, resume and status, still do", e.Brief())
}

// Brief is Error without what still works.
func (e *UnwritableError) Brief() string {
	why := e.Err
	var path *os.PathError
	if errors.As(why, &path) {
		why = path.Err // the path is a trial's
	}
	return fmt.Sprintf("the log in %s cannot be written (%v): no host can run there, and nothing can be appended", e.Dir, why)
}

// Unwrap gives the error of the attempt.
func (e *UnwritableError) Unwrap() error { return e.Err }

// Unwritable returns an *UnwritableError where a host directory with a store cannot be
// written, which it tries.
func Unwritable(dir string) error {
	store := filepath.Join(dir, StoreDir)
	if _, err := os.Stat(store); err != nil {
		return nil //nolint:nilerr // there is nothing that could be read either
	}
	dirs, _ := blocks.Find(store) // none: the engine has not begun
	for _, msgs := range dirs {
		dirs = append(dirs, filepath.Dir(msgs))
	}
	for _, d := range append(dirs, dir, store) {
		err := try(d)
		if errors.Is(err, syscall.EROFS) || errors.Is(err, os.ErrPermission) {
			return &UnwritableError{dir, err}
		}
	}
	return nil
}

// try makes an empty file in dir for a moment.
func try(dir string) error {
	f, err := os.CreateTemp(dir, ProbeFile+".*")
	if err != nil {
		return err
	}
	_ = os.Remove(f.Name()) // or the next start does
	return f.Close()
}

// cannotHost puts the reason into an error of Start where it is the directory: the engine
// says something else, or nothing.
func cannotHost(dir string, err error) error {
	if err == nil || explained(err) {
		return err
	}
	if unwritable := Unwritable(dir); unwritable != nil {
		return fmt.Errorf("broker: %w", unwritable)
	}
	if short := Shortage(dir); short != nil {
		return short
	}
	return err
}

// explained reports an error that says what is wrong, whether or not the directory can be
// written.
func explained(err error) bool {
	var locked *LockedError
	var damaged *DamagedError
	var managed *ManagedError
	var missing *MissingLogError
	var link *paths.LinkError
	var short *ShortageError
	var none *NoLogError
	return errors.As(err, &locked) || errors.As(err, &damaged) || errors.As(err, &managed) || errors.As(err, &missing) || errors.As(err, &link) || errors.As(err, &short) || errors.As(err, &none) ||
		errors.Is(err, ErrRestoring)
}

// Probes are the patterns, in a host directory, of what a crash leaves of a probe: empty
// files.
func Probes() []string {
	stream := filepath.Join(StoreDir, engine.StoreDir, "*", engine.StreamsDir, wire.LogName)
	var out []string
	for _, dir := range []string{"", StoreDir, stream, filepath.Join(stream, engine.MessagesDir)} {
		out = append(out, filepath.Join(dir, ProbeFile+"*"))
	}
	return out
}

// removeProbes removes what a crash has left of a probe. One that cannot be removed harms
// nobody.
func (b *Broker) removeProbes() {
	for _, pattern := range Probes() {
		left, _ := blocks.Glob(b.cfg.Dir, pattern) // the patterns are right
		for _, path := range left {
			_ = os.Remove(path)
		}
	}
}
