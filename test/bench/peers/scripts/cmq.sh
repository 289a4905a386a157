#!/usr/bin/env bash
# cmq.sh start | start nowait | kill | stop | wipe | rss
# Three cmq servers on 127.0.0.1: HTTP on 7711..7713, TCP on 7721..7723, admin on 7741..7743.
set -euo pipefail
. "$(dirname "$0")/env.sh"
D=$RUN/cmq

node() {
  "$BIN/cmq" server --node-id "$1" --data-dir "$D/n$1" --cluster-nodes 1=127.0.0.1:7731,2=127.0.0.1:7732,3=127.0.0.1:7733 \
    --http-addr 127.0.0.1:771$1 --tcp-addr 127.0.0.1:772$1 --peer-addr 127.0.0.1:773$1 --admin-addr 127.0.0.1:774$1 \
    --auth-secret-id AKIDbench --auth-secret-key bench-secret-key --limits-queues-per-owner 10000 --log-level warn ${CMQ_FLAGS:-} >>"$D/n$1.out" 2>&1 </dev/null &
  echo $! >"$D/pids/n$1.pid"
}

# ready waits for the nodes. Where one has ended, somebody else may answer in its place.
ready() {
  local i n
  for i in 1 2 3; do
    for n in $(seq 300); do curl -sf "http://127.0.0.1:774$i/readyz" >/dev/null && break; sleep 0.1; done
    kill -0 "$(cat "$D/pids/n$i.pid")" 2>/dev/null || { echo "node $i has ended; are its ports taken? Its last words:" >&2; tail -3 "$D/n$i.out" >&2; exit 1; }
  done
}

case $1 in
start) mkdir -p "$D/pids"; for i in 1 2 3; do node $i; done; [ "${2:-}" = nowait ] || ready ;;
node) node "$2" ;;
rss) rss "$D/pids" ;;
kill) stop_pids "$D/pids" KILL ;;
stop) stop_pids "$D/pids" ;;
wipe) stop_pids "$D/pids" KILL; rm -rf "$D" ;;
esac
