# Durable Stream. `make run` hosts the log of this project; `make test` tests it in minutes, `make test-all` in full.
# Both need Go, make and git, and nothing else.

GO      ?= go
BIN     := bin/dstream
# The race detector needs a C compiler; without one the tests run without it.
RACE    := $(shell command -v $$($(GO) env CC) >/dev/null 2>&1 && echo -race)
# The tests collect garbage less often, which saves a tenth of their CPU time; and their many
# processes do not wait for a second at their end, as the race detector has them do.
TESTENV := GOGC=400 GORACE="atexit_sleep_ms=0 $(GORACE)"
# Modules of their own, which ./... leaves out.
NESTED  := bench deploy/containers tools
LINT    := bin/golangci-lint
VULN    := bin/govulncheck

.PHONY: run build image cycles module-path cluster test test-all readme picture test-plain test-servers sdk sdk-test plugin plugin-test e2e lint vuln bench bench-compare fuzz kill races faults upgrade soak clean

run: build ## host the log of the project in this directory
	$(BIN) serve

build: ## the program, as bin/dstream
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/dstream

ENGINE  ?= docker
IMAGE   ?= dstream
image: build ## the image of Dockerfile, from bin/dstream: nothing is fetched
	rm -rf bin/image && mkdir -p bin/image/data && cp $(BIN) bin/image/dstream
	$(ENGINE) build -f Dockerfile.binary -t $(IMAGE) bin/image

cluster: build ## three nodes and a mirror on the loopback, until Ctrl-C; ARGS=--print only prints them
	@DSTREAM=$(BIN) deploy/cluster.sh $(ARGS)

test: ## what holds each package's promises, in minutes; docs/testing.md says what it leaves to test-all
	$(TESTENV) $(GO) test $(RACE) -short -timeout 20m ./...
	@set -e; for m in $(NESTED); do $(TESTENV) $(GO) test -C $$m $(RACE) -short ./...; done

# A step of a long target, with the time; a target that needs npm, where there is npm; the revision that an upgrade begins at.
STEP     = @printf '\n== %s (%s)\n' "$(1)" "$$(date +%T)"
WITH_NPM = @if command -v npm >/dev/null; then $(1); else echo "skipped: there is no npm"; fi
BEFORE   = 5132294
test-all: ## every test at its full length, the long runs of kill, races and faults, a plain nats-server, a real OpenCode
	$(call STEP,every test at its full length)
	$(TESTENV) $(GO) test $(RACE) -timeout 30m ./...
	@set -e; for m in $(NESTED); do $(TESTENV) $(GO) test -C $$m $(RACE) ./...; done
	$(call STEP,the TypeScript SDK)
	$(call WITH_NPM,$(MAKE) sdk-test)
	$(call STEP,the plugin for OpenCode)
	$(call WITH_NPM,$(MAKE) plugin-test)
	$(call STEP,a real OpenCode)
	$(call WITH_NPM,$(MAKE) e2e)
	$(call STEP,200 rounds of kill -9)
	$(MAKE) kill
	$(call STEP,200 rounds of races for one decision and one claim)
	$(MAKE) races
	$(call STEP,faults: one host and three nodes and three machines and the controls)
	$(MAKE) faults LONG=40s
	$(call STEP,an upgrade from an earlier revision and back)
	@if git cat-file -e "$(BEFORE)^{commit}" 2>/dev/null; then $(MAKE) upgrade BASE=$(BEFORE); else echo "skipped: this clone has no revision $(BEFORE)"; fi
	$(call STEP,the tests that any server must pass with a plain nats-server)
	$(MAKE) test-plain

readme: ## what the commands of README and docs print, put into them
	DSTREAM_README_WRITE=1 $(GO) test -count=1 -run '^(TestReadme|TestDocuments)$$' .

picture: ## docs/picture.svg, drawn from what the commands of docs/picture.txt print
	DSTREAM_README_WRITE=1 $(GO) test -count=1 -run '^TestPicture$$' .

test-plain: ## the tests that any server must pass, with a plain nats-server
	DSTREAM_TEST_SERVER=plain $(GO) test -count=1 -timeout 10m ./client ./internal/logio ./internal/sweeper ./mirror

test-servers: ## the tests that any server must pass, with a plain nats-server and with three
	DSTREAM_TEST_SERVER=plain $(GO) test -count=1 -timeout 10m ./client ./internal/logio ./internal/sweeper ./mirror
	DSTREAM_TEST_SERVER=cluster $(GO) test -count=1 -timeout 30m -parallel 3 ./client ./internal/logio ./internal/sweeper ./mirror

SDK := sdk/typescript
sdk: ## the TypeScript SDK for Node, as JavaScript in sdk/typescript/dist (npm and Node 20)
	cd $(SDK) && npm ci --no-fund --no-audit && npm run build

sdk-test: build ## the SDK's tests under Node 20, and with BUN=… its Quick Start under that Bun
	cd $(SDK) && npm ci --no-fund --no-audit && DSTREAM_BIN=$(CURDIR)/$(BIN) npm test

PLUGIN := plugin/opencode/plugin
plugin: ## the plugin for OpenCode, one file: internal/agents/opencode/plugin/durable-stream.js (npm and Node 20)
	cd $(PLUGIN) && npm ci --no-fund --no-audit && npm run build

plugin-test: build ## that the plugin's file is what its source gives, and its tests without an OpenCode
	cd $(PLUGIN) && npm ci --no-fund --no-audit && DSTREAM_BIN=$(CURDIR)/$(BIN) npm test

E2E := plugin/opencode/e2e
# Not npm ci: a registry that lacks the packages of other machines gives a lock without them.
e2e: build sdk ## a real OpenCode, from npm, with a scripted model: ARGS='-t compaction' or ARGS=crash.test.mjs for some of it
	cd $(SDK) && npx tsc -p test
	cd $(E2E) && npm install --no-save --ignore-scripts && DSTREAM_BIN=$(CURDIR)/$(BIN) node run.mjs $(ARGS)

kill: ## 200 rounds of kill -9 of a host under load, with serve and with eight agents that host
	DSTREAM_KILL_ROUNDS=200 $(GO) test -count=1 -timeout 30m -run "TestKill|TestManyWorkers" -v ./cmd/dstream

soak: ## SOAK of 500 appends/s with readers that come and go
	DSTREAM_SOAK=$(SOAK) $(GO) test -count=1 -timeout 3h -v -run TestSoak ./internal/faults
SOAK ?= 20m

LONG ?= 1m
faults: ## LONG of faults on one host and on three nodes each, SEED=… repeats a run, KINDS='…|…' picks faults
	DSTREAM_FAULTS=$(LONG) SEED=$(SEED) DSTREAM_FAULT_KINDS='$(value KINDS)' $(GO) test -count=1 -timeout 3h -v -run 'TestFaults|TestControl' ./internal/faults

upgrade: ## logs of the program of BASE=<rev> are continued by this one, process by process, and back
	@GO=$(GO) internal/faults/upgrade.sh '$(BASE)' bin/upgrade

races: ## 200 rounds of 100 deciders and of 50 claimants, on one host and on three nodes
	DSTREAM_RACE_ROUNDS=200 $(GO) test -count=1 -timeout 40m -run '^TestOneOf' -v .

# Not in /tmp, which is no disk on many machines.
BENCHTMP := $(CURDIR)/bin/bench
bench: ## all measurements of docs/performance.md, each beside its neighbours, in some minutes; BENCH='…|…' picks
	@rm -rf $(BENCHTMP) && mkdir -p $(BENCHTMP)
	TMPDIR=$(BENCHTMP) $(GO) test -C bench -run '^$$' -bench '$(or $(value BENCH),.)' -benchtime 1x -timeout 30m . | \
	  TMPDIR=$(BENCHTMP) $(GO) run -C bench ./table $(if $(BENCH),-some,-write ../docs/performance.md)

bench-compare: ## what changed since BASE=<rev>, by benchstat: COUNT runs of each in turn; BENCH='…|…' picks
	@GO=$(GO) BENCH='$(or $(value BENCH),.)' COUNT=$(or $(COUNT),6) bench/compare.sh '$(BASE)' bin/compare

FUZZTIME ?= 30s
fuzz: ## each fuzz target for FUZZTIME
	@set -e; for pkg in ./event ./internal/agents/opencode ./internal/rpc ./internal/wire ./internal/legacy ./mirror; do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

lint: $(LINT) ## gofmt, go vet, staticcheck and what .golangci.yml names
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	@set -e; for m in . $(NESTED); do echo "lint $$m"; \
	  (cd $$m && $(GO) mod tidy -diff && $(GO) vet ./... && $(CURDIR)/$(LINT) run --allow-parallel-runners ./...); done

module-path: ## another module path, everywhere in this repository: NEW=example.com/x/dstream
	@$(GO) run -C tools ./modulepath .. '$(NEW)'

cycles: ## how many files of each package refer to each other in a cycle; ARGS='-v ./client' names those of some
	$(GO) run tools/filecycles/main.go $(or $(ARGS),./...)

$(LINT): tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

vuln: ## known vulnerabilities, where the database can be reached
	cd tools && $(GO) build -o ../$(VULN) golang.org/x/vuln/cmd/govulncheck
	$(VULN) ./... > bin/vuln.log 2>&1

clean:
	rm -rf bin
