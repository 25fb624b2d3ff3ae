package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"durablestream/internal/wait"
)

// disk is a file system in an image file, whose power can be cut and which can be
// filled.
type disk struct {
	dir, image string
	mounts     int // on dir, one over the other
}

// MakeDisks puts count file systems of so many bytes under dir and gives where they
// are mounted; the system's faults then include power cuts. What keeps them from
// being made is in the error.
func MakeDisks(dir string, count int, size int64) ([]*disk, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("needs root: it mounts file systems")
	}
	var disks []*disk
	for i := range count {
		d := &disk{dir: filepath.Join(dir, fmt.Sprintf("disk%d", i+1)), image: filepath.Join(dir, fmt.Sprintf("image%d", i+1))}
		if err := d.make(size); err != nil {
			return nil, errors.Join(err, Unmount(disks))
		}
		disks = append(disks, d)
	}
	return disks, nil
}

// Unmount takes disks away.
func Unmount(disks []*disk) error {
	var err error
	for _, d := range disks {
		err = errors.Join(err, d.unmount())
	}
	return err
}

// Dir is where the disk is mounted.
func (d *disk) Dir() string { return d.dir }

func (d *disk) make(size int64) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(d.image, size); err != nil {
		return err
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-N", "2048", d.image).CombinedOutput(); err != nil {
		return fmt.Errorf("needs mkfs.ext4: %w: %s", err, out)
	}
	return d.mount()
}

func (d *disk) mount() error {
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot mount an image here: %w: %s", err, out)
	}
	d.mounts++
	return nil
}

// unmount takes all mounts away, the dead ones too.
func (d *disk) unmount() error {
	for ; d.mounts > 0; d.mounts-- {
		if err := d.unmountOne(); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) unmountOne() error {
	// A process that was killed a moment ago may hold it yet, and nothing tells when
	// the last file in it is let go.
	patience, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		out, err := exec.Command("umount", d.dir).CombinedOutput()
		if err == nil {
			return nil
		}
		if wait.For(patience, 20*time.Millisecond) != nil {
			return fmt.Errorf("cannot unmount %s: %w: %s", d.dir, err, out)
		}
	}
}

// remount gives the power back.
//
// The file system that was shut down lives on as long as a process has a file of it open,
// as joined clients have the host's directory, or another mount namespace holds a copy of the
// mount. A new mount of the same image would be that dead file system again, on which
// everything fails with an input/output error. A copy of the image is another device. It is
// mounted over the dead one: at no time is the directory gone, which clients would take for
// one that was moved.
func (d *disk) remount() error {
	fresh := d.image + ".fresh"
	if out, err := exec.Command("cp", "--sparse=always", d.image, fresh).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot copy the image %s: %w: %s", d.image, err, out)
	}
	if err := os.Rename(fresh, d.image); err != nil {
		return err
	}
	if err := d.mount(); err != nil {
		return err
	}
	if err := d.writable(); err != nil {
		return fmt.Errorf("%s has no power after it was given back: %w", d.dir, err)
	}
	return nil
}

// writable makes and removes a file.
func (d *disk) writable() error {
	path := filepath.Join(d.dir, "writable")
	return errors.Join(os.WriteFile(path, nil, 0o600), os.Remove(path))
}

func (d *disk) holds(path string) bool {
	return strings.HasPrefix(path, d.dir+string(filepath.Separator))
}
