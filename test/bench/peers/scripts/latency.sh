#!/usr/bin/env bash
# latency.sh [FILE.svg [PEER]] : how long a send takes at 10 % to 90 % of the peak, arrivals at random; a table, and a plot if a
# file for it is named. About 75 s (DUR, 5s, for each of ten steps).
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$HERE/scripts/peers.sh"
"$BIN/bench" memory
peer "${2:-cmq}"
"$SH" wipe
"$SH" $START
trap '"$SH" wipe' EXIT
"$BIN/bench" latency $ARGS -warm 1s -dur "${DUR:-5s}" -svg "${1:-}" -out "$RUN/latency.jsonl"
