#!/usr/bin/env bash
# pprof.sh WORK OUTSTANDING [PEER] : profiles of the processor of the three cmq nodes and of the client, taken together under
# one workload (produce, consume or both), in $RUN/pprof; then the top of each. `go tool pprof $RUN/bin/cmq
# $RUN/pprof/n1.pb.gz` shows more. PEER is cmq (the default), cmq-batch, cmq-wide or cmq-http; SECS how long (8).
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$HERE/scripts/peers.sh"
"$BIN/bench" memory
work=$1 outs=$2 secs=${SECS:-8}
peer "${3:-cmq}"
out=$RUN/pprof
mkdir -p "$out"
"$SH" wipe
"$SH" $START
trap '"$SH" wipe' EXIT
"$BIN/bench" suite $ARGS -work "$work" -outstanding "$outs" -reps 1 -warm 2s -dur "$((secs + 2))s" -out "$out/results.jsonl" -cpuprofile "$out/client.pb.gz" -ready "$out/ready" &
b=$!
rm -f "$out/ready"
until [ -e "$out/ready" ]; do kill -0 $b; sleep 0.1; done
p=()
for i in 1 2 3; do
  curl -sf -o "$out/n$i.pb.gz" "http://127.0.0.1:774$i/debug/pprof/profile?seconds=$secs" & p+=($!)
done
wait $b "${p[@]}"
for i in 1 2 3; do echo "## n$i"; go tool pprof -top -nodecount=45 "$BIN/cmq" "$out/n$i.pb.gz" 2>/dev/null | head -52; done
echo "## client"
go tool pprof -top -nodecount=40 "$BIN/bench" "$out/client.pb.gz" 2>/dev/null | head -47
