package durablestream_test

import (
	"fmt"
	"go/types"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A field of a public type has the name in Go that it has in JSON, and a time is a time.Time
// or an event.Time, never a number.
func TestFieldsAgreeWithTheirJSON(t *testing.T) {
	t.Parallel()
	module := strings.TrimSpace(goTool(t, "list", "-m"))
	load := packageLoader(t)
	var found []string
	seen := 0
	for _, name := range public {
		pkg, err := load.Import(strings.TrimSuffix(module+"/"+name, "/"))
		require.NoError(t, err)
		for _, n := range pkg.Scope().Names() {
			o, ok := pkg.Scope().Lookup(n).(*types.TypeName)
			if !ok || !o.Exported() {
				continue
			}
			if s, ok := o.Type().Underlying().(*types.Struct); ok {
				for i := range s.NumFields() {
					seen++
					found = append(found, disagrees(pkg.Name()+"."+n, s.Field(i), s.Tag(i))...)
				}
			}
		}
	}
	require.Empty(t, found)
	require.Greater(t, seen, 100)
}

// timeName matches the names of times. Names of durations and sizes end with their unit.
var timeName = regexp.MustCompile(`(At|Time|Timestamp|Since|Until|Deadline)$`)

func disagrees(at string, f *types.Var, tag string) (found []string) {
	if !f.Exported() || f.Embedded() {
		return nil
	}
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
	if name != "" && name != "-" && plain(name) != plain(f.Name()) {
		found = append(found, fmt.Sprintf("%s.%s is %s in JSON", at, f.Name(), name))
	}
	if b, ok := f.Type().(*types.Basic); ok && b.Info()&types.IsInteger != 0 && timeName.MatchString(f.Name()) {
		found = append(found, fmt.Sprintf("%s.%s is a time, and of type %s", at, f.Name(), b))
	}
	return found
}
