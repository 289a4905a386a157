#!/usr/bin/env bash
# Installs the peers (Debian package, Go module) and builds cmq and the load generator.
set -euo pipefail
. "$(dirname "$0")/env.sh"
if [ ! -x /usr/lib/rabbitmq/bin/rabbitmq-server ]; then
  apt-get update -q && apt-get install -y -q --no-install-recommends rabbitmq-server
fi
[ -x "$BIN/nats-server" ] || GOBIN=$BIN go install github.com/nats-io/nats-server/v2@v2.15.2
(cd "$HERE/../../.." && CGO_ENABLED=0 go build -trimpath -o "$BIN/cmq" ./cmd/cmq)
(cd "$HERE" && go build -o "$BIN/bench" .)
