// Package freeport gives tests TCP ports of the loopback for servers that start later, or
// start again. The system hands the ports of its own range to other listeners and to outgoing
// connections; these ports lie below that range, so that nobody takes one in between.
package freeport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

// The ports from lowest on, below 32768, where Linux begins its own range; other systems
// begin theirs later.
const (
	lowest = 10000
	number = 22000
)

var next atomic.Uint32

// Listen listens on a port of 127.0.0.1 that no server uses. Close it when the server is to
// have the port. Each call in a process gives another port; processes begin at different ones.
func Listen() (net.Listener, error) {
	begin := uint32(os.Getpid()) * 131
	var err error
	for range number {
		port := lowest + (begin+next.Add(1))%number
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return l, nil
		}
	}
	return nil, errors.Join(errors.New("freeport: no port is free"), err)
}
