# make test does everything on a machine with Go, make and git. Each target can be run by itself; see `make help`.

SHELL  := /bin/bash
GO     ?= go
BUILD  := .build
# How much the tests do that can do more or less; `make e2e-big` and `make failover` raise them.
E2E_MESSAGES  ?= 3000
FAILOVER_RUNS ?= 2
SIM_SEEDS     ?= 300
FUZZ_TIME     ?= 20s

.PHONY: help test check fmt fmt-check vet lint race e2e e2e-big failover consumers push-failover push-bench publish-bench mixed-bench test-faults powercuts flips full-disks hung-disks failed-syncs sim mutants bench bench-peers fuzz node build clean

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 12

test: fmt-check vet lint node race sim ## what continuous integration runs

check: test ## the same as test

fmt: ## format all Go files
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

fmt-check: ## fail if a Go file is not formatted
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); if [ -n "$$bad" ]; then echo "not formatted (make fmt): $$bad"; exit 1; fi

vet: ## go vet
	$(GO) vet ./...

lint: ## staticcheck, pinned in tools/go.mod
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

race: ## all tests with the race detector, the end-to-end tests among them
	CMQ_E2E_MESSAGES=$(E2E_MESSAGES) CMQ_E2E_FAILOVERS=$(FAILOVER_RUNS) $(GO) test -race -timeout 15m ./...

e2e: ## only the end-to-end tests, with real processes
	CMQ_E2E_MESSAGES=$(E2E_MESSAGES) CMQ_E2E_FAILOVERS=$(FAILOVER_RUNS) $(GO) test -count=1 -v -timeout 15m ./test/e2e

e2e-big: ## three processes, 200,000 messages of 1 KB, one killed and started again
	CMQ_E2E_MESSAGES=200000 $(GO) test -count=1 -v -timeout 30m -run TestNodeKilledUnderLoad ./test/e2e

failover: ## 20 times the leader is killed under load; prints how long the gap is
	CMQ_E2E_FAILOVERS=20 $(GO) test -count=1 -v -timeout 30m -run TestFailOver ./test/e2e

consumers: ## five minutes of consumers of the SDK while the leader is killed every 20 s: none lost, no two handlers on one message
	CMQ_E2E_CONSUMER_KILLS=15 CMQ_E2E_CONSUMER_PAUSE=20 $(GO) test -count=1 -v -timeout 30m -run TestConsumersThroughFailover ./test/e2e

push-failover: ## 100,000 messages are pushed to an endpoint while the leader is killed every 10 s: none lost, those that come twice counted
	CMQ_E2E_PUSHES=100000 CMQ_E2E_PUSH_PAUSE=10 CMQ_E2E_PUSH_KILLS=1000 $(GO) test -count=1 -v -timeout 30m -run TestPushThroughFailover ./test/e2e

push-bench: ## 1,000 endpoints, one in ten dead and one in ten bad: how much later the others get their messages; for a quiet machine
	CMQ_E2E_ENDPOINTS=1000 CMQ_E2E_PUSHES_EACH=60 CMQ_E2E_PUSH_EVERY_MS=1000 $(GO) test -count=1 -v -timeout 20m -run TestBadEndpointsBesideGoodOnes ./test/e2e

publish-bench: ## publishing to 1, 10 and 100 queues on three nodes: rates, bytes written, processor time; 2 minutes on a quiet machine
	$(GO) run ./test/bench publish -messages 500000

mixed-bench: ## one stream to 50 queues and 50 endpoints, with and without a dead one beside them: how much later the others get it; 2 minutes on a quiet machine
	$(GO) run ./test/bench mixed -seconds 15

sim: ## a short simulation of clusters with faults, seeds 1 to SIM_SEEDS
	$(GO) run ./cmd/cmq sim --seeds $(SIM_SEEDS)

sim-long: ## the same with seeds 1 to 10,000
	$(GO) run ./cmd/cmq sim --seeds 10000

test-faults: ## faults of real disks and system calls, and a few power cuts under load; needs root, strace, loop devices
	CMQ_FAULTS=1 $(GO) test -count=1 -timeout 10m ./test/faults

powercuts: ## the power of one node is cut 300 times, that of all nodes 100 times, under load, on plain disks and on torn ones; needs the same
	CMQ_FAULTS=1 CMQ_POWERCUTS=300 CMQ_POWERCUTS_ALL=100 $(GO) test -count=1 -v -timeout 60m -run PowerCuts ./test/faults

flips: ## 200 bytes of one of three nodes are changed, half of them while it runs; needs the same
	CMQ_FAULTS=1 CMQ_FLIPS=200 $(GO) test -count=1 -v -timeout 30m -run TestFlippedBytes ./test/faults

full-disks: ## the disk of the leader, of a follower and of all nodes is full, 10 times each; needs the same
	CMQ_FAULTS=1 CMQ_FULL_DISKS=10 $(GO) test -count=1 -v -timeout 30m -run 'TestFullDisks|TestNoInodesOnNodes|TestNoDescriptorsForNodes|TestReadOnlyNode' ./test/faults

hung-disks: ## the disk of the leader hangs for 2 s and for 30 s, or is slow; needs the same
	CMQ_FAULTS=1 CMQ_HUNG_DISKS=5 CMQ_HUNG_SECONDS=30 $(GO) test -count=1 -v -timeout 30m -run 'TestHungDisks|TestSlowDisks' ./test/faults

failed-syncs: ## a sync fails 100 times, each with a power cut after the restart; needs the same
	CMQ_FAULTS=1 CMQ_FAILED_SYNCS=100 $(GO) test -count=1 -v -timeout 30m -run TestFailedSyncs ./test/faults

exhaustive: ## a crash at every write of everything a store does, in 64 ways each, and every byte of a small node's files flipped; an hour
	CMQ_EXHAUSTIVE=1 CMQ_CRASH_SEEDS=64 $(GO) test -count=1 -v -timeout 3h -run 'TestCrashAtEvery|TestEveryFlippedByte' ./internal/store ./internal/store/segment ./internal/store/reflog ./internal/sim

mutants: ## deliberate bugs, one at a time; the simulation must catch each within 200 seeds
	$(GO) build -tags mutants -o $(BUILD)/cmq-mutants ./cmd/cmq
	$(BUILD)/cmq-mutants sim --mutants

bench: build ## rates and latencies of a fresh cluster of three
	$(BUILD)/cmq dev --nodes 3 --data-dir $(BUILD)/bench-data --http-addr 127.0.0.1:0 --tcp-addr 127.0.0.1:0 --peer-addr 127.0.0.1:0 --admin-addr 127.0.0.1:0 \
	  --secret-id AKIDbench --secret-key bench > $(BUILD)/bench.log 2>&1 & pid=$$!; \
	trap 'kill $$pid; wait $$pid; rm -rf $(BUILD)/bench-data' EXIT; \
	until [ -s $(BUILD)/bench-data/ports.json ]; do kill -0 $$pid || { cat $(BUILD)/bench.log; exit 1; }; sleep 0.1; done; \
	export CMQ_SECRET_ID=AKIDbench CMQ_SECRET_KEY=bench CMQ_ENDPOINT=http://$$(grep -m1 -o '"http": "[^"]*' $(BUILD)/bench-data/ports.json | cut -d'"' -f4); \
	for mode in send receive both; do $(BUILD)/cmq bench --mode $$mode --outstanding 1000 --pid $$pid; done; \
	$(BUILD)/cmq bench --mode send --outstanding 1 --pid $$pid

bench-peers: ## cmq beside RabbitMQ, NATS and a program that only logs, all on this machine; about 45 minutes, see test/bench/peers
	test/bench/peers/scripts/run-all.sh

fuzz: ## every fuzz target for FUZZ_TIME
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZ_TIME) $$pkg; done; done

# One compatibility suite runs an SDK on node, installed by npm. All others need only Go.
node:
	@command -v node >/dev/null && command -v npm >/dev/null || { \
	  echo "make: node or npm is missing; one compatibility suite needs them. Installing Debian's packages nodejs and npm"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	  $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm || \
	  { echo "make: they could not be installed; install nodejs and npm by hand and run make test again"; exit 1; }; }

build: ## the binary, in .build/cmq
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BUILD)/cmq ./cmd/cmq

clean: ## remove what make made
	rm -rf $(BUILD)
