//go:build !linux

package sickdisk

import (
	"errors"
	"os"
)

var errLinux = errors.New("needs Linux")

func supported() error           { return errLinux }
func tmpfs(string, string) error { return errLinux }
func detach(string) error        { return errLinux }
func take(*os.File, int64) error { return errLinux }
func isFull(error) bool          { return false }
