#!/usr/bin/env bash
# Starts PostgreSQL, etcd and three nodes on the loopback interface, prints how
# to reach them, and stops everything on Ctrl-C. Nothing of the machine is
# touched: all data is in a temporary folder that is removed at the end.
#
#   ./examples/cluster-tests/run.sh
#
# Ports are the first free ones from these on; set the variables for others:
#   HTTP_PORT (8081) of the first node, GRPC_PORT (9001) of the first node,
#   PG_PORT (15432), ETCD_PORT (12379). NODES (3) is how many nodes there are.
# LOG_LEVEL and LEASE_TTL go to the nodes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

need_go
need_postgres
bin=$(postgres_bindir) || die "PostgreSQL's server programs are needed: CRUSTER_TEST_POSTGRES_URL does not serve here"

dir=$(mktemp -d "${TMPDIR:-/tmp}/cluster-tests-XXXXXX")
chmod 755 "$dir"
nodes=() etcd="" pg=""

# alive reports whether a process of ours still runs.
alive() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

# gone waits for a process to end, for so many tenths of a second.
gone() {
  for ((i = 0; i < $2; i++)); do
    alive "$1" || return 0
    sleep 0.1
  done
  return 1
}

# stop ends processes in the order in which they need each other.
stop() {
  trap - EXIT INT TERM
  echo "stopping"
  for pid in "${nodes[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${nodes[@]}"; do gone "$pid" 100 || kill -KILL "$pid" 2>/dev/null || true; done
  if alive "$etcd"; then
    kill -TERM "$etcd"
    gone "$etcd" 50 || kill -KILL "$etcd" 2>/dev/null || true
  fi
  if alive "$pg"; then
    kill -INT "$pg" # a fast shutdown
    gone "$pg" 100 || kill -QUIT "$pg" 2>/dev/null || true
  fi
  rm -rf "$dir"
}
trap stop EXIT
trap 'exit 0' INT TERM

# port sets a variable to the first port from $2 on that nobody listens at.
taken=" "
port() {
  local p=$2
  while [[ $taken == *" $p "* ]] || (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null; do p=$((p + 1)); done
  taken+="$p "
  printf -v "$1" %s "$p"
}

# PostgreSQL refuses to run as root.
as=()
if [ "$(id -u)" -eq 0 ]; then
  user=postgres
  id postgres >/dev/null 2>&1 || user=nobody
  as=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups)
  install -d -o "$user" "$dir/pg"
else
  mkdir "$dir/pg"
fi

echo "building"
go build -o "$dir/node" ./examples/cluster-tests
go build -o "$dir/localetcd" ./examples/cluster-tests/localetcd

# Each process gets a session of its own, so that Ctrl-C reaches this script
# alone and the order of the stop is kept.
port pg_port "${PG_PORT:-15432}"
(cd / && "${as[@]}" "$bin/initdb" -D "$dir/pg/data" -U postgres --auth=trust --encoding=UTF8 --no-locale --no-sync >"$dir/initdb.log" 2>&1) ||
  die "initdb has failed: $(cat "$dir/initdb.log")"
(cd / && exec setsid "${as[@]}" "$bin/postgres" -D "$dir/pg/data" -p "$pg_port" -c listen_addresses=127.0.0.1 \
  -c unix_socket_directories="$dir/pg" -c max_connections=200 -c fsync=off -c full_page_writes=off) >"$dir/postgres.log" 2>&1 &
pg=$!

port etcd_port "${ETCD_PORT:-12379}"
port etcd_peer $((etcd_port + 1))
setsid "$dir/localetcd" -listen "127.0.0.1:$etcd_port" -peer "127.0.0.1:$etcd_peer" -dir "$dir/etcd" >"$dir/etcd.log" 2>&1 &
etcd=$!

# A node waits for both servers by itself.
export POSTGRES_URL="postgres://postgres@127.0.0.1:$pg_port/postgres" ETCD_ENDPOINTS="127.0.0.1:$etcd_port"
http=${HTTP_PORT:-8081} grpc=${GRPC_PORT:-9001}
unset HTTP_PORT GRPC_PORT
echo "PostgreSQL  $POSTGRES_URL  (pid $pg)"
echo "etcd        $ETCD_ENDPOINTS  (pid $etcd)"
for ((n = 1; n <= ${NODES:-3}; n++)); do
  port http "$http"
  port grpc "$grpc"
  LISTEN_ADDR="127.0.0.1:$http" RUNNER_ADDRESS="127.0.0.1:$grpc" setsid "$dir/node" >>"$dir/node$n.log" 2>&1 &
  nodes+=($!)
  echo "node$n       http://127.0.0.1:$http  (RUNNER_ADDRESS 127.0.0.1:$grpc, pid $!, log $dir/node$n.log)"
done
for ((n = 0; n < ${#nodes[@]}; n++)); do
  until grep -q "the node serves" "$dir/node$((n + 1)).log"; do
    alive "${nodes[n]}" || die "node$((n + 1)) has ended: $(cat "$dir/node$((n + 1)).log")"
    sleep 0.1
  done
done
cat <<END
All nodes serve. Kill one with its pid, and start it again with
  POSTGRES_URL=$POSTGRES_URL ETCD_ENDPOINTS=$ETCD_ENDPOINTS \\
  LISTEN_ADDR=... RUNNER_ADDRESS=... $dir/node
Ctrl-C stops everything.
END
wait # for a signal
