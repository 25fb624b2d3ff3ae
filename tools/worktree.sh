# Sourced: checks out $rev of this repository into $base, a work tree in $dir that is removed when
# the script that sourced this ends, by a signal too. $name is that script's in messages.
rev=${1:-} dir=$2
if [ -z "$rev" ]; then
  echo "$name: which revision is the earlier one? make $name BASE=<rev>" >&2
  exit 2
fi
rev=$(git rev-parse --verify "$rev^{commit}")
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
base=$dir/base
trap 'git worktree remove --force "$base" 2>/dev/null || rm -rf "$base"; git worktree prune; rm -rf "$dir/tmp"' EXIT
# Not every sh does the above when a signal ends it.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
git worktree remove --force "$base" 2>/dev/null || rm -rf "$base"
git worktree prune
git worktree add --quiet --detach "$base" "$rev"
