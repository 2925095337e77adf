# Everything that is done with this repository, by name. `make` lists it.

GO       ?= go
ARGS     ?=
INSTALL  ?= 0
FUZZTIME ?= 200000x
TESTFLAGS ?=
TIMEOUT  ?= 10m
RELEASE  ?= 1

# How each package's tests run, and where connections have a goroutine each
# (build tag noloop), as they have on other systems than Linux.
TEST   = $(GO) test -timeout $(TIMEOUT) $(TESTFLAGS)
CONNS  = ./internal/conn ./pkg/server ./internal/load

# Modules of their own, for what lockd's users shall not have to download.
NESTED = $(patsubst %/go.mod,%,$(wildcard test/*/go.mod bench/*/go.mod tools/*/go.mod))

# What staticcheck looks for: all of its bugs (SA), simplifications (S) and
# unused code (U), and of its style checks those that are not about taste.
# Not SA1019: tests read what their own server sends with gobwas/ws's ReadFrame,
# which is deprecated for what strangers may send.
CHECKS = SA*,-SA1019,S*,U1000,ST1005,ST1006,ST1008,ST1012,ST1013,ST1017,ST1019

# tools/testdeps.sh puts programs that tests use in bin/tools; others are where only
# root's PATH leads.
export PATH := $(CURDIR)/bin/tools:$(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help run build test race noloop nested soak survive cluster fuzz lint bench cover compare pgo deb rpm release

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

run: build ## build lockd and serve on 127.0.0.1:9999 (ARGS='-t 9999 -v' passes flags)
	@exec bin/lockd $(ARGS)

build: ## build bin/lockd
	@$(GO) build -o bin/lockd ./cmd/lockd

test: ## go vet and all tests (INSTALL=1 first gets promtool, Chromium and others, which some of them use)
	@tools/testdeps.sh $(INSTALL)
	@$(GO) vet ./...
	@$(MAKE) --no-print-directory noloop nested
	@$(TEST) ./...

race: ## all tests under the race detector
	@$(TEST) -race ./...
	@$(TEST) -race -tags noloop $(CONNS)

noloop: ## the tests of connections once more, with a goroutine for each instead of event loops
	@$(TEST) -tags noloop $(CONNS)

nested: ## go vet and the tests of the modules in test, bench and tools
	@set -e; for dir in $(NESTED); do echo "in $$dir"; (cd $$dir && $(GO) vet ./... && $(TEST) ./...); done

soak: ## clients of all kinds that come and go in every way, watched from outside (ARGS='-duration 30m'; 20s)
	@cd test/soak && $(GO) run . $(ARGS)

survive: ## locks that survive while the server is killed 50 times and packets are lost (ARGS='-kills 10 -kept 40 -plain 40')
	@cd test/survive && $(GO) run . $(ARGS)

cluster: ## nodes, an etcd and clients on machines of their own, and all that may befall them (ARGS='-for 1h'; 2m)
	@cd test/cluster/survive && $(GO) run . $(ARGS)

fuzz: ## every fuzz target with FUZZTIME (200000x) inputs
	@tools/fuzz.sh $(FUZZTIME)

lint: ## gofmt, go vet, staticcheck, builds for macOS, Windows and 32 bits
	@unformatted=$$(gofmt -l $(wildcard bench cmd contrib docs examples internal pkg test tools)) || exit; \
		test -z "$$unformatted" || { echo "not formatted with gofmt:"; echo "$$unformatted"; exit 1; }
	@$(GO) vet ./...
	@$(GO) vet -tags noloop $(CONNS)
	@set -e; for dir in $(NESTED); do (cd $$dir && $(GO) vet ./...); done
	@$(GO) tool -modfile=tools/go.mod staticcheck -checks '$(CHECKS)' ./...
	@# Without U1000: what only event loops use is not unused.
	@$(GO) tool -modfile=tools/go.mod staticcheck -tags noloop -checks '$(CHECKS),-U1000' $(CONNS)
	@# Without the profile: all packages would be compiled for lockd once more.
	@GOOS=darwin $(GO) build -pgo=off ./...
	@GOOS=windows $(GO) build -pgo=off ./...
	@GOARCH=386 CGO_ENABLED=0 $(GO) vet ./...

bench: ## the benchmarks in bench
	@$(GO) test -timeout 30m -run '^$$' -bench=. ./bench

cover: ## coverage by function; bin/cover.html shows it line by line
	@mkdir -p bin
	@$(TEST) -coverpkg=./internal/...,./pkg/...,./cmd/... -coverprofile=bin/cover.out ./...
	@$(GO) tool cover -html=bin/cover.out -o bin/cover.html
	@$(GO) tool cover -func=bin/cover.out

compare: ## lockd beside Redis, memcached and a bare echo, some minutes (COMPARE=--quick for a glance)
	@$(GO) run ./bench/compare $(COMPARE)

pgo: ## profile a server under load, a minute: cmd/lockd/default.pgo, which go build optimizes for
	@$(GO) run ./bench/pgo

deb: ## a package for Debian and Ubuntu, in bin/deb (RELEASE=2: its second edition)
	@cd tools/release && $(GO) run . -out ../../bin/deb -formats deb -targets linux/$$($(GO) env GOARCH) -release $(RELEASE)

rpm: ## a package for Fedora, Red Hat and SUSE, in bin/rpm
	@cd tools/release && $(GO) run . -out ../../bin/rpm -formats rpm -targets linux/$$($(GO) env GOARCH) -release $(RELEASE)

release: ## all that is published, in bin/release, the same bytes anywhere: archives, packages, checksums, SBOMs
	@cd tools/release && $(GO) run . -targets all -release $(RELEASE)
