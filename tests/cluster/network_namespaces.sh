#!/bin/bash
# The main job on three hosts, one of which is cut off in mid-run and comes back.
#
#   tests/cluster/network_namespaces.sh OUT FLAGS...
#
# The hosts are network namespaces of this machine, each with an address, a host name, a /dev/shm and a /tmp/ray of its own, on one
# bridge: a head without CPUs, where the job runs, and two workers of one CPU. Between them is only the network, but for the file
# system, which is the shared storage. FLAGS are of the job; OUT gets the run (OUT/run), its output (job.log), a line for each row with
# its time (rows.jsonl), what happened when (events.log) and Ray's logs (hosts/). Exit code: the job's.
#
# HEALTH=fast (default): Ray finds a host lost after some 10 seconds without an answer; HEALTH=default: after 65, as it does anywhere.
# PYTHON: of the environment with rayfs. Needs root, iproute2 and util-linux. Several may run at once.
# shellcheck disable=SC2329  # functions are called by traps and by wait_for
set -euo pipefail

out=$(realpath -m "$1")
shift
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
job=$(realpath "$(dirname "$0")/../../jobs/label_halluc_eval.py")
name=rfs$$                              # of bridge, links and namespaces: at most 15 characters with what follows
subnet=10.77.$(($$ % 250))
head=$subnet.1:6379
limit_s=600
store=--object-store-memory=200000000     # fits the hosts' /dev/shm

export PATH=${python%/*}:$PATH PYTHONUNBUFFERED=1
export RAY_AUTH_MODE=token RAY_worker_niceness=0 RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN
unset RAY_ADDRESS RAY_TMPDIR TMPDIR

health='{}'
if [ "${HEALTH:-fast}" = fast ]; then
  health='{"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_timeout_ms": 2000,
           "health_check_failure_threshold": 4}'
fi

remove_hosts() {
  trap - EXIT
  local i
  for i in 0 1 2; do
    for _ in $(seq 50); do
      ip netns pids "$name-$i" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
      [ -n "$(ip netns pids "$name-$i" 2>/dev/null)" ] || break
      sleep 0.1
    done
    ip link del "${name}v$i" 2>/dev/null || true
    ip netns del "$name-$i" 2>/dev/null || true
    rm -rf "/etc/netns/$name-$i"
  done
  ip link del "$name" 2>/dev/null || true
}

event() { printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%S.%3N)" "$*" | tee -a "$out/events.log"; }

# Run a command on host $1; the background shell that calls it becomes that command's parent or the command itself.
on_host() {
  local i=$1 prepare
  shift
  prepare="hostname host$i; mount -t tmpfs -o size=600m tmpfs /dev/shm; mount --bind '$out/hosts/$i' /tmp/ray; ip link set lo up"
  exec ip netns exec "$name-$i" unshare --mount --uts bash -c "$prepare; $*"
}

# Wait until the command after $1 succeeds; $1 says what for.
wait_for() {
  local what=$1 i
  shift
  for ((i = 0; i < limit_s * 5; i++)); do
    if "$@" >/dev/null 2>&1; then return; fi
    if [ -n "${driver:-}" ] && ! kill -0 "$driver" 2>/dev/null; then break; fi
    sleep 0.2
  done
  event "gave up waiting until $what"
  exit 1
}

rows_of() { grep -c "\"node\": \"host$1\"" "$out/rows.jsonl" 2>/dev/null || true; }
more_rows_of() { [ "$(rows_of "$1")" -ge "$2" ]; }
gcs_says() { grep -Eqh "$1" "$out"/hosts/0/session_2*/logs/gcs_server.out; }
head_answers() { ip netns exec "$name-0" bash -c "exec 3<>/dev/tcp/${head/:/\/}"; }
host_has_joined() { gcs_says "Registering new node.* node_address=$subnet.$(($1 + 1))\$"; }

mkdir -p "$out"/hosts/{0,1,2} /tmp/ray
trap remove_hosts EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

ip link add "$name" type bridge
ip link set "$name" up
for i in 0 1 2; do
  ip netns add "$name-$i"
  ip link add "${name}v$i" type veth peer name eth0 netns "$name-$i"
  ip link set "${name}v$i" master "$name" up
  ip -n "$name-$i" addr add "$subnet.$((i + 1))/24" dev eth0
  ip -n "$name-$i" link set eth0 up
  mkdir -p "/etc/netns/$name-$i"        # names are looked up here; else every look-up waits for a name server
  : >"/etc/netns/$name-$i/resolv.conf"
  printf '127.0.0.1 localhost\n%s.1 host0\n%s.2 host1\n%s.3 host2\n' "$subnet" "$subnet" "$subnet" >"/etc/netns/$name-$i/hosts"
done

event "hosts up: $subnet.1 to .3, health checks: ${HEALTH:-fast}"
on_host 0 "exec ray start --head --node-ip-address=$subnet.1 --port=6379 --num-cpus=0 --include-dashboard=false $store \
  --system-config='$health' --block" >"$out/host0.log" 2>&1 &
head_pid=$!
wait_for "the head answers" head_answers
for i in 1 2; do                        # as a supervisor would: start Ray again whenever it ends
  on_host "$i" "while :; do ray start --address=$head --node-ip-address=$subnet.$((i + 1)) --num-cpus=1 $store --block; sleep 1; done" \
    >"$out/host$i.log" 2>&1 &
done
for i in 1 2; do wait_for "host$i has joined" host_has_joined "$i"; done

event "job starts on host0"
nsenter --target "$head_pid" --mount --uts --net env RAY_ADDRESS="$head" \
  "$python" "$job" "$@" --out "$out/run" --episode-log "$out/rows.jsonl" >"$out/job.log" 2>&1 &
driver=$!
wait_for "host1 has solved something" more_rows_of 1 20
wait_for "host2 has solved something" more_rows_of 2 20

event "host1 cut off, after $(rows_of 1) rows of host1 and $(rows_of 2) of host2"
ip link set "${name}v1" down
wait_for "the head notices" gcs_says 'Node is dead because the health check failed'
event "the head takes host1 for dead, after $(rows_of 1) rows of host1 and $(rows_of 2) of host2"
before=$(rows_of 1)
wait_for "host2 goes on alone" more_rows_of 2 $(($(rows_of 2) + 20))
event "host1 connected again"
ip link set "${name}v1" up
wait_for "host1 solves episodes again" more_rows_of 1 $((before + 20))
event "host1 has joined again, after $(rows_of 1) rows of host1 and $(rows_of 2) of host2"

code=0
wait "$driver" || code=$?
event "job ends with exit code $code, after $(rows_of 1) rows of host1 and $(rows_of 2) of host2"
exit "$code"
