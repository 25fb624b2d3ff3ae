// Package room says what a disk, and this process, have room for.
package room

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"durablestream/internal/engine"
)

// Lack is what keeps the engine from writing its next block file.
type Lack string

// What a disk, or a process, may lack.
const (
	LackNothing  Lack = ""
	LackSpace    Lack = "space"
	LackInodes   Lack = "inodes"
	LackQuota    Lack = "quota"
	LackFileSize Lack = "file_size"
	LackWriting  Lack = "writing"
	LackBatch    Lack = "batch" // the rest of the batch with a part of which the Log ends
)

const (
	// blockSize is the size of the engine's block files: 8 MiB, or a little more where
	// one message of MaxPayload fills the block.
	blockSize = engine.BlockSize + 64<<10
	// Size is the free space under which no file of that size is tried: the trial
	// must leave something for those who write meanwhile.
	Size = 2 * blockSize
	// mostInodes is the floor of free inodes on any large file system: a block file, its
	// index and a mirror file take one each, and each batch that is under way takes five.
	mostInodes = 256
)

// Room is what a file system says of itself.
type Room struct {
	Free     int64 // bytes
	Inodes   int64 // free; -1: the file system has no limit of its own
	Files    int64 // inodes, used and free
	ReadOnly bool
}

// Of asks the file system of dir.
func Of(dir string) (Room, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Room{}, err
	}
	r := Room{
		Free:     int64(st.Bavail) * int64(st.Bsize), //nolint:unconvert // Bsize is an int32 on other systems
		Inodes:   -1,
		ReadOnly: readOnly(&st),
	}
	// btrfs and others make inodes as they are needed and report none; some network file
	// systems report more free ones than there are.
	if st.Files > 0 && st.Ffree <= st.Files {
		r.Inodes, r.Files = int64(st.Ffree), int64(st.Files)
	}
	if r.Inodes == 0 && Try(dir) == nil { // what it reports is not true
		r.Inodes, r.Files = -1, 0
	}
	return r, nil
}

// InodeFloor is how many inodes must be free: fewer on a small file system, where the
// log's own first files are a considerable part.
func (r Room) InodeFloor() int64 { return min(mostInodes, r.Files/8) }

// Lacks is what r has too little of. refusing adds a margin, so that the answer does not
// flap once appends are refused.
func (r Room) Lacks(floor int64, refusing bool) Lack {
	inodes := r.InodeFloor()
	if refusing {
		floor, inodes = floor+floor/4, inodes+inodes/4
	}
	switch {
	case r.ReadOnly:
		return LackWriting
	case r.Free < floor:
		return LackSpace
	case r.Inodes >= 0 && r.Inodes < inodes:
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

// LackOf sorts the errors of a write. It returns LackNothing for errors that more room
// does not end, such as a failing disk's, and for nil.
func (r Room) LackOf(err error) Lack {
	switch {
	case errors.Is(err, syscall.ENOSPC) && r.Inodes == 0:
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

// Probe makes a file of a block's size in dir, and removes it. The file loses its name
// before it grows: a crash leaves at most an empty file, which the next start removes. With
// sync the disk has taken the file, too.
func Probe(dir string, sync bool) error {
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

// Try makes an empty file in dir for a moment.
func Try(dir string) error {
	f, err := os.CreateTemp(dir, ProbeFile+".*")
	if err != nil {
		return err
	}
	_ = os.Remove(f.Name()) // or the next start does
	return f.Close()
}

// Descriptors is how many more files this process can open. Go has raised the soft limit
// to the hard one when the process began.
func Descriptors() int64 {
	var l unix.Rlimit
	open, err := os.ReadDir("/dev/fd")
	if errors.Is(err, unix.EMFILE) {
		return 0
	}
	if err != nil || unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil || l.Cur > 1<<40 {
		return 1 << 40 // not known, or no limit
	}
	return int64(l.Cur) - int64(len(open)) //nolint:gosec // it was compared
}
