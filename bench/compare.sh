#!/bin/sh
# compare.sh REV DIR: builds the benchmarks of REV and of this tree, runs the short form
# of each in turn, so that both meet the same machine, and lets benchstat tell what
# changed. BENCH picks benchmarks, COUNT is how many runs each has. What was measured stays
# in DIR.
set -eu
name=bench-compare
. tools/worktree.sh
if [ ! -d "$base/bench" ]; then
  echo "bench-compare: $rev has no benchmarks yet" >&2
  exit 1
fi
(cd tools && $GO build -o "$dir/benchstat" golang.org/x/perf/cmd/benchstat)
(cd "$base/bench" && $GO test -c -o "$dir/old.test" .)
(cd bench && $GO test -c -o "$dir/new.test" .)
: >"$dir/old.txt"
: >"$dir/new.txt"
mkdir -p "$dir/tmp"
i=0
while [ "$i" -lt "$COUNT" ]; do
  i=$((i + 1))
  echo "run $i of $COUNT" >&2
  for side in old new; do
    tree=bench
    if [ "$side" = old ]; then tree=$base/bench; fi
    if ! (cd "$tree" && TMPDIR=$dir/tmp "$dir/$side.test" -test.run '^$' -test.short -test.bench "$BENCH" -test.benchtime 1x) >"$dir/run.txt"; then
      cat "$dir/run.txt" >&2
      echo "bench-compare: a benchmark of the $side side failed, see above" >&2
      exit 1
    fi
    if ! grep -q '^Benchmark' "$dir/run.txt"; then
      echo "bench-compare: no benchmark of the $side side has the name $BENCH" >&2
      exit 1
    fi
    cat "$dir/run.txt" >>"$dir/$side.txt"
  done
done
"$dir/benchstat" "old=$dir/old.txt" "new=$dir/new.txt"
