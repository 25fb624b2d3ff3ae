package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/address"
	"durablestream/internal/sickdisk"
)

// Fault is something that happens to a system, and what undoes it.
type Fault struct {
	Name string
	// Hold is the longest that it lasts.
	Hold time.Duration
	// Do makes the fault; what it returns undoes it.
	Do func(ctx context.Context, s *System, r *rand.Rand) (undo func() error, err error)
	// Batches lets a client append large batches under it, of which nobody may see a part.
	Batches bool
}

// Faults are those that can be made to a system on this machine, and the reasons
// for those that cannot.
func (s *System) Faults() (out []Fault, skipped map[string]string) {
	skipped = map[string]string{}
	out = []Fault{
		{Name: "kill one", Do: killOne},
		{Name: "kill the leader", Do: killLeader},
		{Name: "kill all", Do: killAll},
		{Name: "kill all, torn mirror", Do: tornMirror},
		{Name: "stop one", Hold: 8 * time.Second, Do: stopOne},
		{Name: "orderly stop of the leader", Do: endLeader},
	}
	if s.Clustered {
		out = append(out,
			Fault{Name: "partition of one", Hold: 15 * time.Second, Do: isolateOne},
			Fault{Name: "partition of the leader", Hold: 15 * time.Second, Do: isolateLeader},
			Fault{Name: "one-way partition", Hold: 15 * time.Second, Do: isolateOneWay},
			Fault{Name: "two partitions", Hold: 6 * time.Second, Do: splitAll},
		)
	}
	out = append(out, Fault{Name: "1,100 subscribers", Do: manySubscribers})
	out = append(out, s.clockFaults()...)
	if len(s.disks) == 0 {
		for _, f := range append(s.sickFaults(), Fault{Name: "power cut"}, Fault{Name: "quota"}) {
			skipped[f.Name] = s.noDisks
		}
		return out, skipped
	}
	skipped["quota"] = quotas(s.disks[0])
	out = append(out, Fault{Name: "power cut of one", Do: cutOne}, Fault{Name: "power cut of all", Do: cutAll})
	return append(out, s.sickFaults()...), skipped
}

func pick(s *System, r *rand.Rand) *Node { return s.Nodes[r.IntN(len(s.Nodes))] }

// Leader is the node that hosts, or that leads the Log.
func (s *System) Leader(ctx context.Context) (*Node, error) {
	if !s.Clustered {
		a, err := address.Read(broker.AddressPath(filepath.Join(s.Nodes[0].Dir, durablestream.HostDir)))
		for _, n := range s.Nodes {
			if err == nil && n.PID() == a.PID {
				return n, nil
			}
		}
		return nil, fmt.Errorf("faults: nobody hosts: %w", err)
	}
	c, end, err := s.Client(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	st, err := c.Admin().State(ctx)
	for _, n := range s.Nodes {
		if err == nil && n.Name == st.Leader {
			return n, nil
		}
	}
	return nil, fmt.Errorf("faults: nobody leads: %w", err)
}

// leaderOr is the leader, or any node while there is none.
func leaderOr(ctx context.Context, s *System, r *rand.Rand) *Node {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if n, err := s.Leader(ctx); err == nil {
		return n
	}
	return pick(s, r)
}

func killOne(_ context.Context, s *System, r *rand.Rand) (func() error, error) {
	n := pick(s, r)
	n.Kill()
	return n.Start, nil
}

func killLeader(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	n := leaderOr(ctx, s, r)
	n.Kill()
	return n.Start, nil
}

func killAll(_ context.Context, s *System, _ *rand.Rand) (func() error, error) {
	for _, n := range s.Nodes {
		n.Signal(syscall.SIGKILL)
	}
	for _, n := range s.Nodes {
		n.Kill()
	}
	return s.Start, nil
}

// tornMirror kills all and takes off the end of each mirror what a crash of the
// machine could: some bytes, with zeros or rubbish in their place now and then.
func tornMirror(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	undo, err := killAll(ctx, s, r)
	for _, n := range s.Nodes {
		if err == nil {
			err = tear(durablestream.MirrorPath(n.Dir), r)
		}
	}
	return undo, err
}

func tear(path string, r *rand.Rand) error {
	info, err := os.Stat(path)
	if os.IsNotExist(err) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	keep := info.Size() - 1 - r.Int64N(min(info.Size(), 600))
	if err := os.Truncate(path, keep); err != nil {
		return err
	}
	if r.IntN(2) == 0 { // pages that were never written read as zeros
		return os.Truncate(path, keep+r.Int64N(4096))
	}
	return nil
}

// stopOne stops the leader as often as another one: who hosts alone holds up
// everybody until it goes on.
func stopOne(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	n := pick(s, r)
	if r.IntN(2) == 0 {
		n = leaderOr(ctx, s, r)
	}
	n.Signal(syscall.SIGSTOP)
	return func() error { n.Signal(syscall.SIGCONT); return nil }, nil
}

func endLeader(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	n := leaderOr(ctx, s, r)
	n.Signal(syscall.SIGTERM)
	if !n.ended(30 * time.Second) {
		return nil, fmt.Errorf("faults: %s does not end on SIGTERM; it said:\n%s", n.Name, n.Words())
	}
	return n.Start, nil
}

func isolateOne(_ context.Context, s *System, r *rand.Rand) (func() error, error) {
	return s.isolate(pick(s, r), true, true)
}

func isolateLeader(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	return s.isolate(leaderOr(ctx, s, r), true, true)
}

func isolateOneWay(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	hears := r.IntN(2) == 0
	return s.isolate(leaderOr(ctx, s, r), hears, !hears)
}

// isolate cuts what a node says, what it hears, or both.
func (s *System) isolate(n *Node, says, hears bool) (func() error, error) {
	for _, other := range s.Nodes {
		if other == n {
			continue
		}
		if says {
			s.network.sever(way{n.Name, other.Name})
		}
		if hears {
			s.network.sever(way{other.Name, n.Name})
		}
	}
	return s.mendNetwork, nil
}

// splitAll leaves no majority.
func splitAll(_ context.Context, s *System, _ *rand.Rand) (func() error, error) {
	for _, a := range s.Nodes {
		for _, b := range s.Nodes {
			s.network.sever(way{a.Name, b.Name})
		}
	}
	return s.mendNetwork, nil
}

func (s *System) mendNetwork() error { return s.network.mend() }

func cutOne(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	if !s.Clustered {
		return cutAll(ctx, s, r) // the two have one disk
	}
	i := r.IntN(len(s.Nodes))
	return s.cut(i)
}

func cutAll(_ context.Context, s *System, _ *rand.Rand) (func() error, error) {
	all := make([]int, len(s.disks))
	for i := range all {
		all[i] = i
	}
	return s.cut(all...)
}

// cut takes the power from disks and from the nodes that are on them, from the nodes
// first: a power cut leaves nobody to acknowledge anything. (Shutting ext4 down under a
// process that runs is another fault, of a disk that lies: an fsync that is under way
// then may return without an error, and what it was for is not there after a remount.
// A loop of write and fsync alone, without any of this, lost its last record in 6 of
// 60 rounds.)
func (s *System) cut(disks ...int) (func() error, error) {
	var dead []*Node
	for _, i := range disks {
		for _, n := range s.Nodes {
			if s.disks[i].holds(n.Dir) {
				n.Signal(syscall.SIGSTOP)
				dead = append(dead, n)
			}
		}
	}
	for _, n := range dead {
		n.stopped()
	}
	for _, i := range disks {
		if err := s.disks[i].cut(); err != nil {
			return nil, err
		}
	}
	for _, n := range dead {
		n.Kill()
	}
	for _, i := range disks {
		if err := s.disks[i].remount(); err != nil {
			return nil, err
		}
	}
	return func() error {
		for _, n := range dead {
			if err := n.Start(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func fillDisk(_ context.Context, s *System, r *rand.Rand) (func() error, error) {
	return sickdisk.FillBytes(s.disks[0].dir, r.Int64N(8<<20))
}
