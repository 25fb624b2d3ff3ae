#!/usr/bin/env bash
# Starts the cluster of docker-compose.yml as processes of this machine: the brokers
# n1, n2 and n3, and one mirror. Ctrl-C stops all four.
#
#   deploy/cluster.sh             start it, in the foreground
#   deploy/cluster.sh --print     only print the command lines
#   deploy/cluster.sh keys DIR    only make keys and certificates, for containers
#
# DSTREAM is the program (bin/dstream), CLUSTER_DIR where everything is kept
# (.cluster), CLUSTER_PORTS ten ports of the loopback: three for clients, three for
# routes, four for monitors (4221 4222 4223 6221 6222 6223 8221 8222 8223 8224).
set -euo pipefail
set -m # each process has a group of its own: Ctrl-C reaches only this script

dstream=${DSTREAM:-bin/dstream}
dir=${CLUSTER_DIR:-.cluster}
keys=$dir/keys
read -ra port <<<"${CLUSTER_PORTS:-4221 4222 4223 6221 6222 6223 8221 8222 8223 8224}"

client() { echo "127.0.0.1:${port[$1 - 1]}"; }
route() { echo "127.0.0.1:${port[$1 + 2]}"; }
monitor() { echo "127.0.0.1:${port[$1 + 5]}"; }
servers=nats://$(client 1),nats://$(client 2),nats://$(client 3)
routes=nats://$(route 1),nats://$(route 2),nats://$(route 3)

# line puts the environment and the command line of a process into the array line.
line() {
	case $1 in
	n?)
		local n=${1#n}
		line=("DSTREAM_DIR=$dir/$1" "DSTREAM_TLS_CA=$keys/ca.pem"
			"DSTREAM_TLS_CERT=$keys/server.pem" "DSTREAM_TLS_KEY=$keys/server.key"
			"$dstream" serve --name "$1" --cluster-name ds --replicas 3
			--listen "$(client "$n")" --cluster-listen "$(route "$n")" --routes "$routes"
			--keys "$keys/keys.json" --no-mirror --monitor "$(monitor "$n")")
		;;
	mirror)
		line=("DSTREAM_DIR=$dir/mirror" "DSTREAM_SERVER=$servers"
			"DSTREAM_NKEY=$keys/mirror.nk" "DSTREAM_TLS_CA=$keys/ca.pem"
			"$dstream" mirror run --monitor "$(monitor 4)")
		;;
	esac
}

print() {
	for name in n1 n2 n3 mirror; do
		line "$name"
		echo "$name: ${line[*]}"
	done
}

# make_keys fills a directory, once. The operator's and the admin's seeds are there
# too, since this is for a trial: in earnest, take them to where these people are.
make_keys() {
	[[ -e $1/keys.json ]] && return
	mkdir -p -m 700 "$1"
	"$dstream" keys tls --host n1,n2,n3,localhost,127.0.0.1 --out "$1"
	local role
	for role in agent operator admin mirror; do
		"$dstream" keys make "$role" --role "${role/mirror/agent}" --keys "$1/keys.json.new" --out "$1/$role.nk" >/dev/null 2>&1
	done
	mv "$1/keys.json.new" "$1/keys.json" # last: it says that all is there
}

declare -A pid

run() {
	line "$1"
	env "${line[@]}" 2> >(sed -u "s/^/$1: /" >&2) &
	pid[$1]=$!
}

# stop ends them in the order of the flow: first who copies the log, then who keeps
# it, each when the one before has ended.
stop() {
	trap '' INT TERM
	for name in mirror n1 n2 n3; do
		[[ -n ${pid[$name]:-} ]] || continue
		kill -TERM "${pid[$name]}" 2>/dev/null || true
		wait "${pid[$name]}" || true
	done
}

alive() { kill -0 "${pid[$1]}" 2>/dev/null; }

start() {
	make_keys "$keys"
	trap 'stop; exit 0' INT TERM
	for name in n1 n2 n3; do run "$name"; done
	for n in 1 2 3; do
		until "$dstream" health --tls-ca "$keys/ca.pem" "https://$(monitor "$n")" >/dev/null 2>&1; do
			alive "n$n" || { echo "n$n has ended: see above" >&2; stop; exit 1; }
			sleep 0.2
		done
	done
	run mirror
	cat <<-END

		The cluster ds is up; Ctrl-C stops it. Append as an agent, and decide as an operator:
		  export DSTREAM_SERVER=$servers DSTREAM_TLS_CA=$keys/ca.pem
		  $dstream --nkey $keys/agent.nk append task.created --stream ses_1 --actor agent/planner
		  $dstream --nkey $keys/operator.nk status
		Monitors: https://$(monitor 1) https://$(monitor 2) https://$(monitor 3)
		Processes: n1 ${pid[n1]}, n2 ${pid[n2]}, n3 ${pid[n3]}, mirror ${pid[mirror]}

	END
	wait
}

case ${1:-} in
--print) print ;;
keys) make_keys "${2:?keys takes the directory to fill}" ;;
'') start ;;
*)
	sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
