package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"time"

	"durablestream/internal/sickdisk"
)

// sickFaults are faults of a disk that goes on, and on which something is refused. Large
// batches are appended under all of them: see batcher.
func (s *System) sickFaults() []Fault {
	all := []Fault{
		{Name: "full disk, taken at once", Hold: 3 * time.Second, Do: takeAtOnce, Batches: true},
		{Name: "no inodes", Hold: 3 * time.Second, Do: noInodes, Batches: true},
		{Name: "read-only disk", Hold: 3 * time.Second, Do: readOnly, Batches: true},
		{Name: "limit on the size of files", Hold: 3 * time.Second, Do: limitFiles, Batches: true},
	}
	if s.Clustered {
		return all
	}
	return append(all, Fault{Name: "full disk", Hold: 3 * time.Second, Do: fillDisk, Batches: true})
}

// quotas tells why a disk quota cannot be set here; nothing sets one yet where it can.
func quotas(d *disk) string {
	out, err := exec.Command("mount", "-o", "remount,prjquota", d.dir).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("mount -o remount,prjquota: %v: %s", err, out)
	}
	return "this kernel has quotas, and the harness does not set them"
}

// sickNode picks a node and its disk: the leader as often as any.
func sickNode(ctx context.Context, s *System, r *rand.Rand) (*Node, *disk, error) {
	n := pick(s, r)
	if r.IntN(2) == 0 {
		n = leaderOr(ctx, s, r)
	}
	for _, d := range s.disks {
		if d.holds(n.Dir) {
			return n, d, nil
		}
	}
	return nil, nil, fmt.Errorf("faults: %s is on none of the disks", n.Name)
}

// perhapsRestart kills a node and starts it again, in half of the cases: a start finds the
// disk as it is.
func perhapsRestart(n *Node, r *rand.Rand) error {
	if r.IntN(2) == 0 {
		return nil
	}
	n.Kill()
	return n.Start()
}

// takeAtOnce lets somebody else's file take all the space in one step, but for what a batch
// fits in only in part.
func takeAtOnce(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	n, d, err := sickNode(ctx, s, r)
	if err != nil {
		return nil, err
	}
	undo, err := sickdisk.FillBytes(d.dir, r.Int64N(300<<10))
	if err == nil {
		err = perhapsRestart(n, r)
	}
	return undoThenStart(s, undo), err
}

// noInodes lets somebody else's files take all inodes, but for a few.
func noInodes(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	n, d, err := sickNode(ctx, s, r)
	if err != nil {
		return nil, err
	}
	undo, err := sickdisk.FillInodes(d.dir, r.IntN(4))
	if err == nil {
		err = perhapsRestart(n, r)
	}
	return undoThenStart(s, undo), err
}

// undoThenStart starts the nodes that have ended over what is undone.
func undoThenStart(s *System, undo sickdisk.Undo) func() error {
	if undo == nil {
		return nil
	}
	return func() error { return errors.Join(undo(), s.Start()) }
}

// readOnly turns a disk read-only as an error of the device does.
func readOnly(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	n, d, err := sickNode(ctx, s, r)
	if err != nil {
		return nil, err
	}
	if err := sickdisk.Abort(d.dir); err != nil {
		return nil, err
	}
	if err := perhapsRestart(n, r); err != nil {
		return nil, err
	}
	return func() error {
		for _, n := range s.Nodes {
			if d.holds(n.Dir) {
				n.Kill()
			}
		}
		return errors.Join(d.remount(), s.Start())
	}, nil
}
