// Package longtest decides what a short run of the tests leaves out. `make test` is a
// short run (go test -short); `make test-all` runs everything.
//
// A test that takes long runs a shorter round in a short run, by Pick. A test that has
// no shorter round is left out of it, by Only; what it promises must be held by another
// test that is not. docs/testing.md lists both, and a test here compares the list with
// the calls. No other code asks testing.Short.
package longtest

import "testing"

// Pick returns short in a short run, and long otherwise.
func Pick[T any](short, long T) T {
	if testing.Short() {
		return short
	}
	return long
}

// Only skips the test in a short run; why says what makes it long and which test holds
// the promise there.
func Only(t testing.TB, why string) {
	t.Helper()
	if testing.Short() {
		t.Skip("left to make test-all: " + why)
	}
}
