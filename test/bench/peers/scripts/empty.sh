#!/usr/bin/env bash
# empty.sh start | wipe | rss
# A net/http server on 127.0.0.1:7761 that answers as cmq does and keeps nothing.
set -euo pipefail
. "$(dirname "$0")/env.sh"
D=$RUN/empty
case $1 in
start)
  mkdir -p "$D/pids"
  "$BIN/bench" http-empty -listen 127.0.0.1:7761 >>"$D/n1.out" 2>&1 </dev/null &
  echo $! >"$D/pids/n1.pid"
  for n in $(seq 100); do curl -sf http://127.0.0.1:7761/ >/dev/null && break; sleep 0.1; done ;;
rss) rss "$D/pids" ;;
wipe) stop_pids "$D/pids" KILL; rm -rf "$D" ;;
esac
