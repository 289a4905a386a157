#!/usr/bin/env bash
# http-singles.sh [CONNECTIONS…] : signed SendMessage over HTTP, one message a request, one request at a time on each of so many
# connections (64), against the same client and an empty net/http handler: medians of REPS (3) runs of DUR (5s), taken in
# turns, the processor time of a message in client and servers, and the ratio of the rates. naive at the same number of
# outstanding messages shows what the durable write alone costs. About 60 s for each repeat and number of connections.
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$HERE/scripts/peers.sh"
"$BIN/bench" memory
rm -f "$RUN/http-singles.jsonl"
for rep in $(seq "${REPS:-3}"); do
  for conns in "${@:-64}"; do
    for p in http-empty http-singles naive; do
      peer "$p"
      [ "$p" = naive ] || ARGS="$ARGS -conns $conns"
      "$SH" wipe
      "$SH" $START
      "$BIN/bench" suite $ARGS -work produce -rep0 "$rep" -reps 1 -outstanding "$conns" -warm "${WARM:-2s}" -dur "${DUR:-5s}" -out "$RUN/http-singles.jsonl" >&2 || echo "$p failed" >&2
      "$SH" wipe
    done
  done
done
"$BIN/bench" ratio -in "$RUN/http-singles.jsonl" -to http-empty
