#!/usr/bin/env bash
# costs.sh [PEER…] : what a message costs with 1000 outstanding: processor time of client and nodes, bytes written for each
# replica, memory. About 35 s for each peer and repeat (REPS, 1; DUR, 5s).
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$HERE/scripts/peers.sh"
"$BIN/bench" memory
rm -f "$RUN/costs.jsonl"
for rep in $(seq "${REPS:-1}"); do
  for p in "${@:-naive cmq cmq-wide cmq-batch}"; do
    for q in $p; do
      peer "$q"
      "$SH" wipe
      "$SH" $START
      "$BIN/bench" suite $ARGS -rep0 "$rep" -reps 1 -outstanding 1000 -dur "${DUR:-5s}" -out "$RUN/costs.jsonl" >&2 || echo "$q failed"
      "$SH" wipe
    done
  done
done
"$BIN/bench" table -costs -foreign 99 -in "$RUN/costs.jsonl"
