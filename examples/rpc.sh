#!/usr/bin/env bash
# Drives `dstream rpc` from a shell: requests go into a pipe, answers come out of one.
# Nothing waits for an answer that it does not need.
#
#   examples/rpc.sh [DSTREAM] [DIRECTORY]
set -euo pipefail
dstream=${1:-dstream} dir=${2:-.opencode}

coproc RPC { "$dstream" --dir "$dir" rpc; }
rpc_pid=$RPC_PID in=${RPC[1]} out=${RPC[0]}

send() { printf '{"jsonrpc":"2.0","id":"%s","method":"%s","params":%s}\n' "$1" "$2" "$3" >&"$in"; }

# answer ID reads until the answer of that id has come, and prints it.
answer() {
  while IFS= read -r line <&"$out"; do
    case $line in *"\"id\":\"$1\","*) printf '%s\n' "$line"; return ;; esac
  done
  echo "dstream rpc ended before it answered $1" >&2
  return 1
}

# Two appends in a row. They are recorded in this order.
send a1 append '{"event":{"type":"task.created","stream_id":"ses_sh","actor":"agent/planner","payload":{"title":"Refactor Auth"}}}'
send a2 append '{"event":{"type":"task.completed","stream_id":"ses_sh","actor":"agent/executor","payload":{"result":"ok"}}}'
answer a2 >/dev/null # both are on disk now

# A question, and who waits for its answer; asking again under the same id is safe.
send q1 checkpoint.request '{"id":"cp_sh","stream_id":"ses_sh","requested_by":"agent/executor","decision_point":"Deploy?","options":[{"id":"yes","label":"Deploy"}]}'
send w1 checkpoint.wait '{"id":"cp_sh"}'
send d1 checkpoint.approve '{"id":"cp_sh","by":"alice","option":"yes"}' # or, elsewhere: dstream checkpoint approve
case $(answer w1) in
  *'"status":"approved"'*) echo "approved" ;;
  *) echo "not approved" ;;
esac

send q2 query '{"stream_id":"ses_sh","types":["task.*"]}'
answer q2

# The end of the input is the end of the session: all that was sent is carried out.
exec {in}>&-
wait "$rpc_pid"
