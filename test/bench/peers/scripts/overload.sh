#!/usr/bin/env bash
# overload.sh [PEER] : three times the peak for a minute (LONG): what is confirmed meanwhile, memory, and how soon all is as
# usual again. About 80 s.
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$HERE/scripts/peers.sh"
"$BIN/bench" memory
peer "${1:-cmq}"
"$SH" wipe
"$SH" $START
trap '"$SH" wipe' EXIT
"$BIN/bench" overload $ARGS -warm 1s -dur "${DUR:-5s}" -long "${LONG:-1m}" -conns 16 -window "${WINDOW:-256}"
