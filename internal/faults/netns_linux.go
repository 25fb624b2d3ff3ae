package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// namespaces are three machines with an address each, on a switch of their own, made
// of network namespaces. What is cut disappears on the way, as on a broken line.
type namespaces struct {
	prefix string
	count  int
	cut    map[way]bool
}

// newNamespaces makes them. It changes the network of the namespace that it is
// called in, which should be one of the test's own.
func newNamespaces(count int) (*namespaces, error) {
	n := &namespaces{prefix: fmt.Sprintf("ds%d-", os.Getpid()), count: count, cut: map[way]bool{}}
	steps := []string{
		"ip link set lo up",
		"ip link add br0 type bridge",
		"ip addr add 10.99.0.254/24 dev br0",
		"ip link set br0 up",
	}
	for i := 1; i <= count; i++ {
		ns := n.name(i)
		steps = append(steps,
			"ip netns add "+ns,
			fmt.Sprintf("ip link add v%d type veth peer name eth0 netns %s", i, ns),
			fmt.Sprintf("ip link set v%d master br0 up", i),
			fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", ns, n.ip(i)),
			fmt.Sprintf("ip -n %s link set eth0 up", ns),
			fmt.Sprintf("ip -n %s link set lo up", ns),
		)
	}
	for _, step := range steps {
		if err := shell(step); err != nil {
			n.end()
			return nil, err
		}
	}
	return n, nil
}

func shell(line string) error {
	words := strings.Fields(line)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return nil
}

func (n *namespaces) name(i int) string { return fmt.Sprintf("%sn%d", n.prefix, i) }
func (n *namespaces) ip(i int) string   { return fmt.Sprintf("10.99.0.%d", i) }

// enter is what a command line begins with that runs on machine i.
func (n *namespaces) enter(i int) []string {
	return []string{"nsenter", "--net=/run/netns/" + n.name(i)}
}

// number of a node n1, n2, …
func number(node string) (i int) {
	_, _ = fmt.Sscanf(node, "n%d", &i) // our own names
	return i
}

func (n *namespaces) sever(ways ...way) {
	for _, w := range ways {
		if w.from == w.to || n.cut[w] {
			continue
		}
		n.cut[w] = true // whatever the command says: mend looks at what is there
		_ = shell(fmt.Sprintf("ip -n %s route add blackhole %s/32", n.name(number(w.from)), n.ip(number(w.to))))
	}
}

// mend removes what was cut, and looks whether it has gone: a node that stayed cut off
// would be taken for one that does not catch up.
func (n *namespaces) mend() error {
	for w := range n.cut {
		_ = shell(fmt.Sprintf("ip -n %s route del blackhole %s/32", n.name(number(w.from)), n.ip(number(w.to))))
	}
	clear(n.cut)
	for i := 1; i <= n.count; i++ {
		left, err := exec.Command("ip", "-n", n.name(i), "route", "show", "type", "blackhole").CombinedOutput()
		if err == nil && len(left) > 0 {
			err = errors.New("it still goes nowhere to")
		}
		if err != nil {
			return fmt.Errorf("faults: the network of n%d was not mended: %w: %s", i, err, left)
		}
	}
	return nil
}

func (n *namespaces) end() {
	for i := 1; i <= n.count; i++ {
		_ = shell("ip netns del " + n.name(i))
	}
	_ = shell("ip link del br0")
}

// NewNamespacedCluster gives three nodes on machines of their own: network
// namespaces, on a network that only this process and they see.
func NewNamespacedCluster(bin string, dirs [3]string) (*System, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("needs root: it makes network namespaces")
	}
	ns, err := newNamespaces(len(dirs))
	if err != nil {
		return nil, err
	}
	s := &System{bin: bin, Clustered: true, network: ns}
	var routes []string
	for i := range dirs {
		routes = append(routes, fmt.Sprintf("nats://%s:6222", ns.ip(i+1)))
	}
	for i, dir := range dirs {
		name := fmt.Sprintf("n%d", i+1)
		s.servers = append(s.servers, fmt.Sprintf("nats://%s:4222", ns.ip(i+1)))
		s.Nodes = append(s.Nodes, &Node{Name: name, Dir: dir, bin: bin, enter: ns.enter(i + 1), args: []string{
			"--dir", dir, "serve", "--name", name, "--cluster-name", "faults", "--replicas", "3", "--insecure",
			"--cluster-listen", ns.ip(i+1) + ":6222", "--listen", ns.ip(i+1) + ":4222", "--routes", strings.Join(routes, ","),
		}})
	}
	return s, nil
}
