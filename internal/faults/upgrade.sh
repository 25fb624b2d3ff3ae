#!/bin/sh
# upgrade.sh REV DIR: builds the program of REV into DIR, in a work tree that it removes again,
# and runs TestUpgrade with it: logs that REV made are continued by this tree's program, and
# the other way round.
set -eu
rev=${1:-} dir=$2
if [ -z "$rev" ]; then
  echo "upgrade: which revision is the earlier one? make upgrade BASE=<rev>" >&2
  exit 2
fi
rev=$(git rev-parse --verify "$rev^{commit}")
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
base=$dir/base
trap 'git worktree remove --force "$base" 2>/dev/null || rm -rf "$base"; git worktree prune' EXIT
# Not every sh does the above when a signal ends it.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
git worktree remove --force "$base" 2>/dev/null || rm -rf "$base"
git worktree prune
git worktree add --quiet --detach "$base" "$rev"
(cd "$base" && CGO_ENABLED=0 $GO build -o "$dir/before" ./cmd/dstream)
DSTREAM_BEFORE=$dir/before $GO test -count=1 -timeout 30m -v -run '^TestUpgrade$' ./internal/faults
