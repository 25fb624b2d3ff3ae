//go:build !linux

package faults

import "errors"

var errLinux = errors.New("needs Linux")

func (d *disk) cut() error                       { return errLinux }
func (d *disk) fill(int64) (func() error, error) { return nil, errLinux }
