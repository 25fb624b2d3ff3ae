package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

const (
	// digestWait is how long a node has to read its copy of the log.
	digestWait = 2 * time.Minute
	// flightTime is how long a copy may be behind what a majority has acknowledged.
	flightTime = 10 * time.Second
)

// copies are what the nodes of a cluster hold of the same range.
type copies struct {
	own    string // this node
	asked  blocks.DigestRange
	digest map[string]blocks.Digest
	silent map[string]error // nodes that hold a copy, and did not tell of it
	// catching are those that are behind and copy what they lack, as the log's leader says, or
	// will when they run.
	catching map[string]bool
}

// compareNodes holds this node's copy of the log against those of the others.
func (d *Examination) compareNodes(ctx context.Context, s seen) {
	log, err := d.cluster(ctx)
	if err != nil {
		d.checked("not the other nodes: " + err.Error())
		return
	}
	defer log.Close() //nolint:errcheck // it was only looked at
	c, err := d.askNodes(ctx, log, s)
	if err != nil {
		d.checked("not the other nodes: " + err.Error())
		return
	}
	words := fmt.Sprintf("the copies of %s, up to position %d", strings.Join(c.nodes(), ", "), c.asked.To)
	for _, n := range sortedKeys(c.silent) {
		words += fmt.Sprintf(", not of %s (%v)", n, c.silent[n])
	}
	d.checked(words)
	d.agrees = slices.Contains(c.majority(), c.own)
	for _, f := range c.findings(d.dropReplica) {
		if f.fix != nil {
			f.Repair += d.ends()
		}
		d.diverged = d.diverged || f.fix != nil || !f.Sure
		d.add(f)
	}
}

// cluster opens the cluster's log, through this node or the servers that were given.
func (d *Examination) cluster(ctx context.Context) (*durablestream.DurableStream, error) {
	if !d.hosts() && len(d.cfg.Log.Servers) == 0 {
		return nil, errors.New("this node does not run: give --server of another one")
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Wait)
	defer cancel()
	cfg := d.cfg.Log
	cfg.JoinOnly, cfg.Command.NoMirror, cfg.Command.NoSweeper, cfg.Command.NoCreate = true, true, true, true
	log, err := durablestream.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	// The server drops the request of any other key without an answer.
	if err := log.Admin().Needs(client.RoleAdmin, "ask the nodes for digests of their copies"); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return log, nil
}

// askNodes asks all nodes that hold a copy for its digests, and reads this node's own.
func (d *Examination) askNodes(ctx context.Context, log *durablestream.DurableStream, s seen) (c copies, err error) {
	ctx, cancel := context.WithTimeout(ctx, digestWait)
	defer cancel()
	st, err := log.Admin().State(ctx)
	if err != nil {
		return c, err
	}
	if st.Cluster == "" || st.Last == 0 {
		return c, errors.New("the log there is empty, or no cluster's")
	}
	if st.Config.Replicas < 2 {
		return c, errors.New("the log has one copy")
	}
	c = copies{own: d.managed.Node, asked: blocks.Digests(max(1, event.Sequence(st.Config.FirstSeq)), st.Last),
		digest: map[string]blocks.Digest{}, silent: map[string]error{}, catching: map[string]bool{}}
	var asking sync.WaitGroup
	var mu sync.Mutex // guards c
	for _, r := range st.Replicas {
		// The others call a node that has not run since they started by its id.
		if r.Name == c.own || strings.Contains(r.Name, engine.NodeID(c.own)) {
			continue
		}
		asking.Go(func() {
			ctx := ctx
			if r.Offline { // perhaps it is there all the same
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, d.cfg.Wait)
				defer cancel()
			}
			c.get(ctx, &mu, r.Name, func() (blocks.Digest, error) { return digestOf(ctx, log.Admin().Conn(), r.Name, c.asked) })
		})
	}
	own := func() (blocks.Digest, error) { return blocks.DigestOf(s.blocks, c.asked) }
	if !d.hosts() {
		digest, err := own()
		asking.Wait()
		if c.catching[c.own] = true; err != nil {
			c.silent[c.own] = err
		} else {
			c.digest[c.own] = digest
		}
		return c, nil
	}
	c.get(ctx, &mu, c.own, own)
	asking.Wait()
	if st, err = log.Admin().State(ctx); err != nil {
		return c, err
	}
	for _, r := range st.Replicas {
		c.catching[r.Name] = !r.Current
	}
	return c, nil
}

// get takes in one copy. What is on its way is waited for.
func (c *copies) get(ctx context.Context, mu *sync.Mutex, node string, digest func() (blocks.Digest, error)) {
	for begun := time.Now(); ; {
		d, err := digest()
		mu.Lock()
		if err != nil {
			c.silent[node] = err
			delete(c.digest, node)
		} else {
			c.digest[node] = d
		}
		mu.Unlock()
		if err != nil {
			return
		}
		if d.Last >= c.asked.To && d.Missing == 0 || time.Since(begun) > flightTime || wait.For(ctx, 250*time.Millisecond) != nil {
			return
		}
	}
}

func digestOf(ctx context.Context, nc *nats.Conn, node string, q blocks.DigestRange) (d blocks.Digest, err error) {
	question, err := json.Marshal(q)
	if err != nil {
		return d, err
	}
	m, err := nc.RequestWithContext(ctx, wire.DigestSubject(node), question)
	if errors.Is(err, nats.ErrNoResponders) {
		return d, errors.New("it does not run, or is of an older version")
	}
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(m.Data, &d); err != nil {
		return d, err
	}
	if d.Error != "" {
		return d, errors.New(d.Error)
	}
	return d, nil
}

func (c copies) nodes() []string { return sortedKeys(c.digest) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// whole tells whether a node's copy holds all that was asked for.
func (c copies) whole(node string) bool {
	d, ok := c.digest[node]
	return ok && d.Missing == 0 && d.Last >= c.asked.To && len(d.Sums) > 0
}

// majority are whole copies that are the same, on more than half of all nodes; nil if
// there is no such majority.
func (c copies) majority() []string {
	all := len(c.digest) + len(c.silent)
	for _, a := range c.nodes() {
		var same []string
		for _, b := range c.nodes() {
			if c.whole(a) && c.whole(b) && slices.Equal(c.digest[a].Sums, c.digest[b].Sums) {
				same = append(same, b)
			}
		}
		if 2*len(same) > all {
			return same
		}
	}
	return nil
}

// differ is the first run in which two copies hold other things, as far as both go.
func (c copies) differ(a, b string) (run wire.Range, ok bool) {
	x, y := c.digest[a], c.digest[b]
	end := min(x.Last, y.Last)
	for i := range min(len(x.Sums), len(y.Sums)) {
		if run = c.asked.Run(i); run.To > end && end < c.asked.To {
			return run, false // the shorter one does not have all of it
		}
		if x.Sums[i] != y.Sums[i] {
			return run, true
		}
	}
	return run, false
}

// findings are the copies that are not as the others are. Positions that a copy cannot
// read are for store_damaged of its own node. replace repairs the copy of this node.
func (c copies) findings(replace func(context.Context) (string, error)) (out []Finding) {
	with := c.majority()
	if with == nil {
		for _, n := range c.nodes() {
			if n == c.own || c.digest[n].Missing > 0 {
				continue
			}
			if run, ok := c.differ(c.own, n); ok && c.digest[c.own].Missing == 0 {
				out = append(out, Finding{Name: FoundDiverged, What: fmt.Sprintf(
					"the copies of %s and %s differ in position %s, and no majority of the nodes holds the same whole copy: nobody can tell which is right; start the nodes that are away, and run doctor again", c.own, n, run)})
			}
		}
		return out
	}
	for _, n := range c.nodes() {
		if slices.Contains(with, n) || c.digest[n].Missing > 0 {
			continue
		}
		run, ok := c.differ(n, with[0])
		last := c.digest[n].Last
		f := Finding{Name: FoundDiverged, Sure: true}
		switch {
		case ok:
			f.What = fmt.Sprintf("the node %s diverged: in position %s its copy of the log is not that of %s, which are the same", n, run, strings.Join(with, " and "))
		case last < c.asked.To && !c.catching[n]:
			f.What = fmt.Sprintf("the node %s diverged: its copy of the log ends at position %d, that of %s at %d, and it does not copy the rest", n, last, strings.Join(with, " and "), c.asked.To)
		default:
			continue
		}
		if n == c.own {
			f.Repair = "takes this node's copy of the log and its mirror away; when the node is started again, it copies the log from the others, and writes the mirror anew"
			f.Keeps = "both as they are, in durable_stream/damaged"
			f.fix = replace
		} else {
			f.What += fmt.Sprintf("; run doctor on %s", n)
		}
		out = append(out, f)
	}
	return out
}

// othersAreWhole demands that a majority of the nodes, without this one, holds the log
// whole and the same: only then may this copy go.
func (d *Examination) othersAreWhole(ctx context.Context) error {
	log, err := d.cluster(ctx)
	if err != nil {
		return fmt.Errorf("whether the other nodes hold the log is not known: %w", err)
	}
	defer log.Close() //nolint:errcheck // it was only looked at
	s, err := d.read()
	if err != nil {
		return err
	}
	c, err := d.askNodes(ctx, log, s)
	if err != nil {
		return fmt.Errorf("whether the other nodes hold the log is not known: %w", err)
	}
	delete(c.digest, c.own)
	c.silent[c.own] = nil // it counts as a node
	if c.majority() == nil {
		var words []string
		for _, n := range c.nodes() {
			words = append(words, fmt.Sprintf("%s holds positions up to %d, %d of them missing", n, c.digest[n].Last, c.digest[n].Missing))
		}
		for _, n := range sortedKeys(c.silent) {
			if n != c.own {
				words = append(words, fmt.Sprintf("%s does not tell: %v", n, c.silent[n]))
			}
		}
		return fmt.Errorf("no majority of the nodes holds the log whole and the same without this copy (%s)", strings.Join(words, "; "))
	}
	return nil
}
