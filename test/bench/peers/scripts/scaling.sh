#!/usr/bin/env bash
# scaling.sh [PEER] : sets, queues, sizes of bodies and connections, one changed at a time, and 10,000 idle long polls over TCP
# (10 connections) and over HTTP (a connection each). About 4 minutes (DUR, 3s, for each of 26 runs).
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$HERE/scripts/peers.sh"
"$BIN/bench" memory
peer "${1:-cmq}"
"$SH" wipe
"$SH" $START
trap '"$SH" wipe' EXIT
"$BIN/bench" scale $ARGS -warm 1s -dur "${DUR:-3s}" -out "$RUN/scaling.jsonl"
echo
"$SH" wipe
"$SH" $START
"$BIN/bench" polls $ARGS -polls 10000 -conns 10 -o queues=10
"$SH" wipe
"$SH" $START
"$BIN/bench" polls $ARGS -polls 10000 -conns 10 -o queues=10 -o http=true
