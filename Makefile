# Everything there is to do, for people and for CI. `make help` lists it.
SHELL := bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
# Where the programs that tests need are kept, outside the clone, so that a fresh one finds them again.
export LUCID_TOOLS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lucid-tools

.PHONY: help run build quick test test-mongodb check generate lint format breaking bench simulate tools soak mutants

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

node_modules/.package-lock.json: package.json src/client/package.json package-lock.json
	npm ci --no-audit --no-fund
	@touch $@

build: node_modules/.package-lock.json ## compile to dist/
	@npm run -s build

run: build ## start the service on port 8083 with an agent of this machine; Ctrl-C stops both
	@exec node dist/src/cli/lucid-node.js run

quick: node_modules/.package-lock.json ## tests on the embedded engine in about a minute; without e2e, MongoDB, Redis, replicas, kills, floods, long scenarios
	vitest run --config test/vitest.quick.config.ts

test: tools check build ## install what the tests need, then run all of them
	vitest run --config test/vitest.config.ts

test-mongodb: node_modules/.package-lock.json ## against the MongoDB replica set of MONGODB_TEST_URL: elections under load, plans, long builds
	vitest run --config test/vitest.config.ts --project "given mongodb"

check: node_modules/.package-lock.json lint breaking ## types, lint, formats, contract: all that needs no running service
	node .ci/lock.mjs --check
	node .ci/handbook.mjs --check
	node .ci/generate.mjs --check
	tsc -p tsconfig.json --noEmit
	tsc -p test/tsconfig.json
	vitest run --config test/vitest.house.config.ts

generate: node_modules/.package-lock.json ## make gen/ from proto/, and the tables of settings and metrics in docs/operations.md
	node .ci/generate.mjs
	node .ci/handbook.mjs

lint: node_modules/.package-lock.json ## buf and Biome, changing nothing
	buf lint
	buf format -d --exit-code proto
	biome check --error-on-warnings .

format: node_modules/.package-lock.json ## put proto and TypeScript into their one format
	buf format -w proto
	biome check --write .

breaking: node_modules/.package-lock.json ## the contract against the last released one
	buf breaking proto --against proto/released.binpb

bench: build ## measure beside references in the same run; writes bench/results/latest.json
	node bench/run.mjs

simulate: build ## 100 simulated nodes against the service of `make run`
	LUCID_TOKEN=$$(node dist/src/cli/lucid-node.js token --role admin) \
		node dist/src/cli/lucid-node.js simulate --nodes 100 --server http://127.0.0.1:$${PORT:-8083}

# The numbers of a soak; SOAK_MINUTES is how long the churn of connections lasts.
soak: export CRASH_KILLS ?= 50
soak: export SIMULATED_NODES ?= 3000
soak: export FLEET_KILLS ?= 20
soak: export PAUSE_SECONDS ?= 60
soak: export STORM_NODES ?= 5000
soak: export FAULT_SECONDS ?= 30
soak: export FUZZ_SECONDS ?= 900
soak: export CHURN_NODES ?= 2000
soak: export SOAK_MINUTES ?= 60
soak: export SOAK ?= 1
soak: tools check build ## the same tests with the full numbers of kills, nodes and minutes; some two hours
	vitest run --config test/vitest.config.ts

mutants: node_modules/.package-lock.json ## take each guard of the payouts away in turn, in a copy: a test must fail for each
	node .ci/mutants.mjs

tools: ## install the programs that tests need
	@.ci/tools
