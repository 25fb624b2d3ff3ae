#!/bin/sh
# upgrade.sh REV DIR: builds the program of REV into DIR, in a work tree that it removes again,
# and runs TestUpgrade with it: logs that REV made are continued by this tree's program, and
# the other way round.
set -eu
name=upgrade
. tools/worktree.sh
(cd "$base" && CGO_ENABLED=0 $GO build -o "$dir/before" ./cmd/dstream)
DSTREAM_BEFORE=$dir/before $GO test -count=1 -timeout 30m -v -run '^TestUpgrade$' ./internal/faults
