package address_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/address"
)

// BenchmarkFind is what a join costs before anything is sent.
func BenchmarkFind(b *testing.B) {
	h := hostIn(b, "")
	for b.Loop() {
		_, err := address.Find(h.path)
		require.NoError(b, err)
	}
}
