package projection

import (
	"slices"

	"durablestream/event"
)

// Lineage folds the causes of events. A cause that was never seen becomes a node of its
// own, and Lineage cuts a cycle where it closes.
type Lineage struct {
	nodes map[string]*Node
	order []string
}

// Node is one event in the tree of causes.
type Node struct {
	ID       string
	Event    *event.Recorded // nil: named as a cause, never seen
	Children []string        // in the order of the Log

	at int // in order
}

// Needs implements Fold.
func (*Lineage) Needs() Needs { return Needs{Types: []string{">"}} }

// Apply implements Fold.
func (l *Lineage) Apply(e Entry) error {
	if e.Event == nil {
		return nil
	}
	n := l.node(e.Event.ID)
	if n.Event != nil {
		return nil // an id that was used again: the first stands
	}
	r := *e.Event
	n.Event = &r
	if r.CausationID != "" {
		parent := l.node(r.CausationID)
		parent.Children = append(parent.Children, r.ID)
	}
	return nil
}

func (l *Lineage) node(id string) *Node {
	if l.nodes == nil {
		l.nodes = map[string]*Node{}
	}
	if l.nodes[id] == nil {
		l.nodes[id] = &Node{ID: id, at: len(l.order)}
		l.order = append(l.order, id)
	}
	return l.nodes[id]
}

// Get returns a node.
func (l *Lineage) Get(id string) (Node, bool) {
	if n := l.nodes[id]; n != nil {
		return *n, true
	}
	return Node{}, false
}

// Roots lists the nodes without a seen cause, in the order of the Log. The root of a
// cycle is its first node.
func (l *Lineage) Roots() []string {
	var out []string
	seen := map[string]bool{}
	for _, id := range l.order {
		if root := l.Root(id); !seen[root] {
			seen[root] = true
			out = append(out, root)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return l.nodes[a].at - l.nodes[b].at })
	return out
}

// Root returns the first known cause of an event. If its causes end in a cycle, it
// returns the first node of the cycle.
func (l *Lineage) Root(id string) string {
	step := map[string]int{}
	for n := 0; ; n++ {
		node := l.nodes[id]
		if node == nil || node.Event == nil || node.Event.CausationID == "" {
			return id
		}
		if begin, again := step[id]; again {
			first := id
			for other, at := range step {
				if at >= begin && l.nodes[other].at < l.nodes[first].at {
					first = other
				}
			}
			return first
		}
		step[id] = n
		id = node.Event.CausationID
	}
}

// Walk visits a node and all below it once each, parents first, with their depth.
func (l *Lineage) Walk(id string, visit func(id string, depth int)) {
	seen := map[string]bool{}
	var walk func(string, int)
	walk = func(id string, depth int) {
		if seen[id] || l.nodes[id] == nil {
			return
		}
		seen[id] = true
		visit(id, depth)
		for _, child := range l.nodes[id].Children {
			walk(child, depth+1)
		}
	}
	walk(id, 0)
}
