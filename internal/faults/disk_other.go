//go:build !linux

package faults

import "errors"

var errLinux = errors.New("needs Linux")

func (d *disk) cut() error { return errLinux }
