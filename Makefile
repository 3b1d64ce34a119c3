# The commands of this repository. `make` alone lists them.

BENCH     ?= .
BENCHTIME ?= 1s
FUZZTIME  ?= 10s

.DEFAULT_GOAL := help
.PHONY: help test quick lint lint-tools bench fuzz cover docs fmt tidy verify clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## run every test with the race detector, and all checks that CI runs; sets up what it needs
	./scripts/test.sh

quick: ## run the short tests without the race detector, for the loop of editing
	go test -short ./...

lint: ## vet, staticcheck, and golangci-lint when it has been built
	./scripts/lint.sh

lint-tools: ## build the pinned linters into .bin; golangci-lint takes some minutes the first time
	go build -C internal/devtools -o $(CURDIR)/.bin/ honnef.co/go/tools/cmd/staticcheck
	go build -C internal/devtools/golangci -o $(CURDIR)/.bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bench: ## run the benchmarks; BENCH=regexp chooses, BENCHTIME=1x only tries them
	go test -run='^$$' -bench='$(BENCH)' -benchtime='$(BENCHTIME)' -benchmem ./...
	@if [ -f bench/go.mod ]; then go test -C bench -run='^$$' -bench='$(BENCH)' -benchtime='$(BENCHTIME)' -benchmem ./...; fi

fuzz: ## run every fuzz target for a short while; FUZZTIME=1m for longer
	./scripts/fuzz.sh '$(FUZZTIME)'

cover: ## measure which statements the tests reach; cover.html shows them
	go test -coverpkg=./... -coverprofile=cover.out ./...
	go tool cover -html=cover.out -o cover.html
	@go tool cover -func=cover.out | tail -n 1

docs: ## rewrite the code in the documents from the code that is compiled
	go test ./internal/mdtest -update

fmt: ## format the Go files
	find . \( -name '.?*' -o -name testdata \) -prune -o -name '*.go' -type f -print0 | xargs -0 gofmt -w

tidy: ## tidy go.mod of every module
	find . \( -name '.?*' -o -name testdata \) -prune -o -name go.mod -type f -execdir go mod tidy \;

verify: test lint ## everything to do before a release: test, lint, each fuzz target and benchmark once
	$(MAKE) fuzz FUZZTIME=5s
	$(MAKE) bench BENCHTIME=1x

clean: ## remove what the other commands leave behind
	rm -rf .bin cover.out cover.html
