//go:build !linux

package faults

import "errors"

// NewNamespacedCluster needs Linux.
func NewNamespacedCluster(string, [3]string) (*System, error) {
	return nil, errors.New("needs Linux: it makes network namespaces")
}
