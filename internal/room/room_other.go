//go:build !linux

package room

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func readOnly(st *unix.Statfs_t) bool { return st.Flags&unix.MNT_RDONLY != 0 }

func reserve(*os.File, int64) error { return errors.ErrUnsupported }
