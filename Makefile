# Copyright 2026 The dealiot-connect authors.
# SPDX-License-Identifier: Apache-2.0

# Everything here needs Go and make, nothing else. `make help` lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN     ?= $(CURDIR)/bin/dealiot-connect
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# The commit's date, not today's: the same commit gives the same binary.
DATE    ?= $(shell TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null || echo unknown)

GO_FILES     = $(shell find . -name '*.go')
SHELL_FILES  = .ci/run $(shell find . -name '*.sh')
# YAML that the engine loads. The topic catalogue is ours, not a pipeline.
CONNECT_YAML = $(filter-out resources/topics.yaml,$(filter-out %_benthos_test.yaml,$(wildcard pipelines/*.yaml resources/*.yaml)))

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

FUZZTIME ?= 10s
# Test packages that run at once; the end-to-end tests start processes of their own.
TEST_P   ?= 2

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: build ## Build, then run the whole platform on this machine with a simulated herd
	exec '$(BIN)' dev

.PHONY: build
build: ## Build the static binary into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION) -X main.dateBuilt=$(DATE)' -o '$(BIN)' ./cmd/dealiot-connect

.PHONY: test
test: build check test-go test-race test-pipelines ## Everything: static checks, Go tests, pipelines, the path end to end

.PHONY: check
check: ## Formatting, go vet, shell syntax
	@unformatted=$$(gofmt -l $(GO_FILES)); if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	@for file in $(SHELL_FILES); do bash -n "$$file"; done

.PHONY: test-go
test-go: build ## Go tests, end-to-end tests on the built binary included
	DEALIOT_CONNECT_BIN='$(BIN)' go test -count=1 -shuffle=on -p $(TEST_P) -timeout 15m ./...

# Only what goroutines share is worth the slower run; it needs a C compiler.
.PHONY: test-race
test-race: ## The components' and commands' Go tests under the race detector
	@if command -v "$$(go env CC)" >/dev/null; then \
		echo "go test -race -short ./plugins/... ./internal/..."; \
		CGO_ENABLED=1 go test -count=1 -race -short -p $(TEST_P) -timeout 15m ./plugins/... ./internal/...; \
	else \
		echo "SKIPPED: the race detector needs a C compiler, and $$(go env CC) is not there"; \
	fi

.PHONY: test-pipelines
test-pipelines: build ## Lint the pipelines and run their unit tests, with no environment set
	env -i PATH="$$PATH" HOME="$$HOME" '$(BIN)' lint --deprecated --labels --verbose $(CONNECT_YAML)
	env -i PATH="$$PATH" HOME="$$HOME" '$(BIN)' lint README.md
	env -i PATH="$$PATH" HOME="$$HOME" '$(BIN)' test ./pipelines/... ./resources/...

.PHONY: lint
lint: lint-go lint-shell ## staticcheck and, where it is installed, shellcheck

.PHONY: lint-go
lint-go:
	@if go run $(STATICCHECK) -version >/dev/null 2>&1; then echo "staticcheck ./..."; go run $(STATICCHECK) ./...; else echo "SKIPPED: $(STATICCHECK) cannot be fetched"; fi

.PHONY: lint-shell
lint-shell:
	@if command -v shellcheck >/dev/null; then echo "shellcheck"; shellcheck $(SHELL_FILES); else echo "SKIPPED: shellcheck is not installed"; fi

.PHONY: generate
generate: ## Refresh what is generated: the editor schema and the components' READMEs
	go generate ./...

.PHONY: bench
bench: ## Benchmarks of the hot paths, with allocations
	go test -run '^$$' -bench . -benchmem ./plugins/...

.PHONY: fuzz
# The Go tool reports a run whose time ended at a bad moment as failed, with no
# input to show for it: "context deadline exceeded". That is no finding.
fuzz: ## Run each fuzz target for FUZZTIME (10s)
	@found=0; failed=""; log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	while IFS=: read -r file _ rest; do \
		target=$${rest#func }; target=$${target%%(*}; dir=$$(dirname "$$file"); found=$$((found + 1)); \
		echo "fuzzing $$target in $$dir for $(FUZZTIME)"; \
		if ! go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -parallel 2 "$$dir" 2>&1 | tee "$$log" && \
			! grep -q '^    context deadline exceeded' "$$log"; then failed="$$failed $$target"; fi; \
	done < <(grep -n '^func Fuzz[A-Z]' $(filter %_test.go,$(GO_FILES)) /dev/null); \
	[ "$$found" -gt 0 ] || { echo "found no fuzz target"; exit 1; }; \
	[ -z "$$failed" ] || { echo "failed:$$failed; the inputs are in testdata/fuzz beside each"; exit 1; }

.PHONY: clean
clean: ## Remove what the build and the demo left
	rm -rf bin
