package faults

import (
	"context"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// limitFiles lets no file of a node grow beyond some size: EFBIG, though the disk has
// space. Quotas answer in the same way.
func limitFiles(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	n, _, err := sickNode(ctx, s, r)
	if err != nil {
		return nil, err
	}
	var was unix.Rlimit
	limit := unix.Rlimit{Cur: uint64(r.Int64N(1 << 20)), Max: unix.RLIM_INFINITY}
	pid := n.PID()
	if pid == 0 {
		return s.Start, nil
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limit, &was); err != nil {
		return nil, err
	}
	return func() error {
		if n.PID() == pid {
			if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &was, nil); err != nil && n.PID() == pid {
				return err
			}
		}
		return s.Start() // if it has ended over that
	}, nil
}
