# make          prints this help
# make check    is what CI runs; STRICT=1 lets no test be skipped

T ?= 30s
N ?= 20000
STRICT ?=
ARGS ?=
REF ?= HEAD
PKG ?= ./...
BENCH ?= .
COUNT ?= 10
BENCHSTAT := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

export WALQ_STRICT := $(STRICT)

RUN := go run ./internal/checkrun

.DEFAULT_GOAL := help
.PHONY: help check test race steps vet fmt fuzz demo cover storm crash powercut eio bench bench-peers bench-compare

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

check: ## everything that CI runs (STRICT=1: a skipped test fails)
	@$(RUN) check

test: ## the tests
	@$(RUN) test ./...

race: ## the tests under the race detector (needs a C compiler)
	@$(RUN) test -race ./...

steps: ## the tests with step hooks: death at every step of every protocol
	@$(RUN) test -tags walqsteps ./...

vet: ## go vet
	go vet ./...
	go vet -tags walqsteps,invariants ./...

fmt: ## format every file
	gofmt -l -w .

fuzz: ## every fuzz target for T each (T=30s)
	@$(RUN) fuzz $(T)

demo: ## processes that die, a queue that loses nothing
	go run ./cmd/walq demo

cover: ## coverage of all packages by all tests, function by function
	@mkdir -p build
	@$(RUN) test -coverpkg=./... -coverprofile=build/cover.out ./...
	go tool cover -func=build/cover.out

storm: ## the storms, with SIGKILL and SIGSTOP, for T each (T=30s); a million sleeps
	@WALQ_STORM=$(T) $(RUN) test -count=1 -timeout=0 -tags walqsteps -run Storm ./...

crash: ## N torn images (N=20000), then the planted bugs that they must find
	@WALQ_CRASH=$(N) $(RUN) test -count=1 -timeout=0 -tags walqsteps -run NoPowerCut ./wal .
	@$(RUN) test -count=1 -timeout=0 -tags walqsteps,planted -run PlantedBugs ./wal .

powercut: ## the power of a loop-mounted disk goes N times (N=20) while processes work (needs root)
	@WALQ_POWERCUT=$(if $(filter file,$(origin N)),20,$(N)) $(RUN) test -count=1 -timeout=0 -tags walqsteps ./internal/powercut

eio: ## syncs that fail, by strace and by step hooks, in one of several processes
	@$(RUN) test -count=1 -tags walqsteps -run 'EIO|SyncFails|Poison' .

bench: ## the benchmarks; those against other libraries are in bench/
	go test -run '^$$' -bench . -benchmem ./...
	@if [ -f bench/go.mod ]; then cd bench && go test -run '^$$' -bench . -benchmem ./...; fi

bench-peers: ## walq beside other queues and the machine's limits (ARGS='-budget 28m'); docs/PERFORMANCE.md
	@cd bench && go run . -out ../build/bench-peers $(ARGS)

bench-compare: ## the benchmarks of PKG here and at the commit REF, COUNT times each (REF=HEAD PKG=./wal COUNT=10)
	@set -e; ref=$$(mktemp -d); trap 'rm -rf "$$ref"' EXIT; here=$$PWD; \
	mkdir "$$ref/tree"; git archive $(REF) | tar -x -C "$$ref/tree"; \
	for round in $$(seq $(COUNT)); do \
		cd "$$ref/tree"; go test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG) >> "$$ref/before"; \
		cd "$$here"; go test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG) >> "$$ref/after"; \
	done; \
	go run $(BENCHSTAT) "$(REF)=$$ref/before" "here=$$ref/after"
