package durablestream_test

import (
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream"
)

// facade is what the root package reaches, and so what a package that uses it does.
var facade = []string{
	"event", "projection", "client", "broker", "mirror", "internal/canonical",
	"internal/address", "internal/blocks", "internal/certs", "internal/copywatch", "internal/diskwatch", "internal/fence", "internal/finder", "internal/gate", "internal/grace", "internal/hosting", "internal/index", "internal/joined", "internal/logend", "internal/meta",
	"internal/paths", "internal/readcopy", "internal/redirect", "internal/roles", "internal/room", "internal/scrub", "internal/serverlog", "internal/slowstart", "internal/staged", "internal/sweeper", "internal/wire",
}

// imports is the import table: what each package of ours may
// import of ours, and which engine libraries it may reach at all.
var imports = map[string]struct {
	ours   []string
	server bool // may carry nats-server
	nats   bool // may carry nats.go
}{
	"event":            {},
	"internal/engine":  {ours: []string{"event"}, nats: true}, // where internal/wire goes, this goes
	"internal/wait":    {},                                    // and this
	"internal/wire":    {ours: []string{"event"}, nats: true},
	"internal/paths":   {},
	"internal/when":    {},
	"internal/address": {ours: []string{"event", "internal/wire", "internal/paths"}, nats: true},
	"internal/blocks":  {ours: []string{"event", "internal/wire", "internal/paths"}, nats: true},
	"internal/meta":    {ours: []string{"event", "internal/wire", "internal/blocks", "internal/paths"}, nats: true},
	"internal/index":   {ours: []string{"event", "internal/wire", "internal/blocks", "internal/paths"}, nats: true},
	"internal/fence":   {ours: []string{"event", "internal/wire", "internal/engine", "internal/blocks", "internal/paths"}, nats: true},
	"internal/grace":   {},
	"internal/finder":  {ours: []string{"event", "internal/wire", "internal/blocks", "internal/index", "internal/paths"}, nats: true},
	"internal/gate":    {ours: []string{"event", "internal/wire", "internal/engine", "internal/roles"}, server: true, nats: true},
	"internal/scrub":   {ours: []string{"event", "internal/wire", "internal/blocks", "internal/paths"}, nats: true},
	"internal/roles":   {ours: []string{"event", "internal/wire"}, nats: true},
	"broker":           {ours: []string{"event", "internal/wire", "internal/address", "internal/roles", "internal/blocks", "internal/fence", "internal/finder", "internal/gate", "internal/grace", "internal/index", "internal/meta", "internal/paths", "internal/certs", "internal/copywatch", "internal/diskwatch", "internal/joined", "internal/logend", "internal/redirect", "internal/room", "internal/scrub", "internal/serverlog", "internal/slowstart", "internal/staged"}, server: true, nats: true},
	"projection":       {ours: []string{"event"}},
	"internal/dial":    {ours: []string{"event", "internal/wire", "internal/address", "internal/roles", "internal/paths"}, nats: true},
	"internal/logio":   {ours: []string{"event", "internal/wire", "internal/address", "internal/roles", "internal/paths", "internal/dial"}, nats: true},
	"client":           {ours: []string{"internal/canonical", "event", "projection", "internal/wire", "internal/address", "internal/roles", "internal/paths", "internal/dial", "internal/logio"}, nats: true},
	"internal/sweeper": {ours: []string{"internal/canonical", "event", "projection", "internal/wire", "internal/address", "internal/roles", "client", "internal/paths"}, nats: true},
	"mirror":           {ours: []string{"internal/canonical", "event", "projection", "internal/paths", "internal/wire", "internal/address", "internal/roles", "client"}, nats: true},
	"internal/hosting": {ours: facade, server: true, nats: true},
	"internal/legacy":  {ours: []string{"event"}},
	"internal/monitor": {ours: []string{"event", "internal/console"}},
	"internal/rpc":     {ours: []string{"internal/canonical", "event", "projection", "internal/agents", "internal/agents/source", "internal/paths", "internal/wire", "internal/address", "internal/roles", "client"}, nats: true},

	"internal/certs":     {},
	"internal/copywatch": {ours: []string{"event", "internal/wire"}, server: true, nats: true},
	"internal/room":      {ours: []string{"event", "internal/engine"}, nats: true},
	"internal/diskwatch": {ours: []string{"event", "internal/wire", "internal/blocks", "internal/logend", "internal/paths", "internal/room", "internal/staged"}, nats: true},
	"internal/logend":    {ours: []string{"event", "internal/wire", "internal/blocks", "internal/paths", "internal/room", "internal/staged"}, nats: true},
	"internal/joined":    {ours: []string{"event", "internal/wire", "internal/roles", "internal/wait"}, server: true, nats: true},
	"internal/redirect":  {ours: []string{"event", "internal/wire", "internal/wait"}, server: true, nats: true},
	"internal/serverlog": {},
	"internal/slowstart": {ours: []string{"internal/paths"}},
	"internal/staged":    {ours: []string{"event", "internal/engine", "internal/room"}, nats: true},

	"internal/status":    {ours: append([]string{"internal/console", "internal/monitor", "internal/place"}, facade...), server: true, nats: true},
	"internal/doctor":    {ours: append([]string{"internal/console", "internal/monitor", "internal/place", "internal/status"}, facade...), server: true, nats: true},
	"internal/otherlog":  {ours: append([]string{"internal/place"}, facade...), server: true, nats: true},
	"internal/mirrorrun": {ours: append([]string{"internal/console", "internal/monitor", "internal/place", "internal/status"}, facade...), server: true, nats: true},
	"internal/canonical": {ours: []string{"event"}},
	"internal/place":     {ours: facade, server: true, nats: true},
	"internal/console":   {},
	"internal/sickdisk":  {},
	"internal/freeport":  {},
	"internal/longtest":  {},
	"internal/readcopy":  {ours: []string{"event", "internal/wire", "internal/engine", "internal/blocks", "internal/index", "internal/paths"}, nats: true},

	"internal/agents":                 {ours: []string{"internal/canonical", "event", "projection", "internal/agents/source", "internal/paths", "internal/wire", "internal/address", "internal/roles", "client"}, nats: true},
	"internal/agents/source":          {ours: []string{"event", "projection"}},
	"internal/agents/opencode":        {ours: []string{"event", "projection", "internal/agents/source", "internal/canonical", "internal/console"}},
	"internal/agents/opencode/plugin": {ours: []string{"internal/console", "internal/paths"}},
}

// module is the path of this module, which 'make module-path' changes.
var module = reflect.TypeFor[durablestream.Config]().PkgPath()

func TestImportTable(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./...").CombinedOutput()
	require.NoError(t, err, "%s", out)
	reached := map[string]string{} // by each package, all that it imports, and what those import
	for line := range strings.Lines(string(out)) {
		pkg, deps, _ := strings.Cut(line, " ")
		reached[pkg] = deps
	}
	for name, rule := range imports {
		if name == "internal/wire" || slices.Contains(rule.ours, "internal/wire") {
			rule.ours = append(slices.Clone(rule.ours), "internal/engine", "internal/wait")
		}
		if slices.Contains(rule.ours, "client") { // where client goes, these go
			rule.ours = append(slices.Clone(rule.ours), "internal/dial", "internal/logio")
		}
		deps, known := reached[module+"/"+name]
		require.True(t, known, "there is no package %s", name)
		for dep := range strings.FieldsSeq(deps) {
			ours, isOurs := strings.CutPrefix(dep, module+"/")
			switch {
			case isOurs && ours != name:
				require.True(t, slices.Contains(rule.ours, ours), "%s must not import %s", name, ours)
			case strings.HasPrefix(dep, "github.com/nats-io/nats-server"):
				require.True(t, rule.server, "%s must not carry nats-server", name)
			case strings.HasPrefix(dep, "github.com/nats-io/nats.go"):
				require.True(t, rule.nats, "%s must not carry nats.go", name)
			}
		}
	}
}

// Every package of ours is in the table, or is one that wires things together.
func TestImportTableIsWhole(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "./...").CombinedOutput()
	require.NoError(t, err, "%s", out)
	wiring := []string{module, module + "/cmd/dstream", module + "/internal/brokertest", module + "/internal/faults", module + "/internal/measure"}
	for pkg := range strings.FieldsSeq(string(out)) {
		_, known := imports[strings.TrimPrefix(pkg, module+"/")]
		require.True(t, known || slices.Contains(wiring, pkg), "%s is not in the import table", pkg)
	}
}

// docs/design.md has a line for each package of ours, and names no folder that is not there.
func TestLayoutNamesEveryRoom(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/design.md")
	require.NoError(t, err)
	_, layout, ok := strings.Cut(string(doc), "\n## Layout\n")
	require.True(t, ok)
	layout, _, ok = strings.Cut(layout, "\n## Ways\n")
	require.True(t, ok)
	for name := range imports {
		require.Contains(t, layout, "\n| `"+name+"/` |", "docs/design.md has no line for %s", name)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/]+)/` \\|").FindAllStringSubmatch(layout, -1) {
		require.DirExists(t, m[1], "docs/design.md has a line for it")
	}
	for _, m := range regexp.MustCompile("`((?:[a-z]+/)+[a-z_]+\\.(?:go|ts))`").FindAllStringSubmatch(layout, -1) {
		require.FileExists(t, m[1], "docs/design.md names it")
	}
}
