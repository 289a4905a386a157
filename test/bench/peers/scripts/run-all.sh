#!/usr/bin/env bash
# The comparison: every peer, REPS repeats that lie apart in time, then the table. About half an hour for three repeats.
# PEERS, REPS, OUTS, WARM and DUR choose less or more; results go to $RUN/results.jsonl.
set -uo pipefail
cd "$(dirname "$0")"
. ./env.sh
./build.sh
rm -f "$RUN/results.jsonl"
for rep in $(seq "${REPS:-3}"); do
  ./suite.sh "$rep" "${OUTS:-1,64,1000}" ${PEERS:-naive cmq cmq-wide cmq-batch cmq-http nats-always nats-default rabbit-quorum}
done 2>&1 | tee -a "$RUN/run.log"
"$BIN/bench" table -in "$RUN/results.jsonl" -foreign 99
