# Baton's front door: `make help`. Nothing needs to be installed or built beforehand; V=1 shows the commands.

.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-7s %s\n'
endif

CLANG ?= clang-19
CLANG_FORMAT ?= clang-format-19
ARCH := $(shell uname -m)
BPF_ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(ARCH)))
BPF_FLAGS := -O2 -g -Wall -Werror -target bpf -mcpu=v3 -D__TARGET_ARCH_$(BPF_ARCH) \
             -I/usr/include/$(ARCH)-linux-gnu -Ibpf -Ibuild/bpf

# Every list is found, not kept: a new file needs no line here.
ROOMS := agent bpf controller proto test
TS_SOURCES := $(shell find $(ROOMS) -name '*.ts' -not -path 'proto/gen/*')
PROTO_SOURCES := $(shell find proto -name '*.proto') $(wildcard proto/generate*)
NATIVE_SOURCES := $(wildcard bpf/binding/*.cc bpf/binding/*.h agent/native/*.cc agent/native/*.h) bpf/shared.h
BPF_SOURCES := $(wildcard bpf/*.bpf.c)
BPF_OBJECTS := $(BPF_SOURCES:bpf/%.c=build/bpf/%.o)
BPF_TEST_OBJECTS := $(patsubst test/bpf/%.c,build/bpf/test/%.o,$(wildcard test/bpf/*.bpf.c))
BIN := node_modules/.bin

##@ Try it
.PHONY: demo
demo: build ## A download outlives two of its servers: set up, show, tear down
	@node dist/test/demo/demo.js

##@ Build
.PHONY: setup
setup: packages node_modules/.installed ## Install what is missing from Debian and npm

.PHONY: build
build: bpf native dist ## Everything below

.PHONY: bpf
bpf: setup $(BPF_OBJECTS) $(BPF_TEST_OBJECTS) ## The packet path: build/bpf/*.bpf.o

.PHONY: native
native: setup build/.native ## The C++ addons: build/Release/*.node

.PHONY: proto
proto: setup build/.proto ## Code generated from proto/: proto/gen

.PHONY: dist
dist: setup build/.dist ## TypeScript to dist/, the command to node_modules/.bin/baton

.PHONY: lint
lint: setup ## Biome for TypeScript, clang-format for C++
	$(say) LINT .
	$(Q)$(BIN)/biome check
	$(Q)$(CLANG_FORMAT) --dry-run --Werror $(filter %.cc %.h,$(filter bpf/binding/% agent/native/%,$(NATIVE_SOURCES)))

.PHONY: format
format: setup ## As lint, but mends
	$(Q)$(BIN)/biome check --write
	$(Q)$(CLANG_FORMAT) -i $(filter bpf/binding/% agent/native/%,$(NATIVE_SOURCES))

.PHONY: clean
clean: ## Remove what was built (not the packages)
	$(Q)rm -rf build dist proto/gen

##@ Test
.PHONY: test
test: build ## LABS=n: the suite that CI runs, so many labs at a time; last line: N passed, N failed, N skipped
	@node dist/test/run.js unit bpf native lab

.PHONY: test-unit test-bpf test-native test-lab
test-unit test-bpf test-native test-lab: test-%: build ## One group of it
	@node dist/test/run.js $*

.PHONY: test-long
test-long: build ## What takes too long for that: kills by the hundred, soak
	@.ci/packages chromium
	@node dist/test/run.js long

.PHONY: bench
bench: build bench-xdp ## Benchmarks: tables here, JSON in test/bench/results/
	@.ci/packages haproxy
	@node dist/test/bench/run.js $(BENCH)

.PHONY: bench-xdp
bench-xdp: setup
	$(if $(wildcard test/bench/xdp/Makefile),$(Q)$(MAKE) -s -C test/bench/xdp)

##@ The lab
.PHONY: lab-up
lab-up: build ## SERVERS=3 CONTENT=dir CONTENT_s2=dir CONFIG=file: the lab, in the background
	@test/lab/up

.PHONY: lab-heal
lab-heal: build ## Restart what was killed or stopped, links up again
	@test/lab/heal

.PHONY: lab-down
lab-down: ## Remove every trace of it, also after a crash
	@test/lab/down

.PHONY: help
help: ## This
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][^=]*:.*## / { n = $$1; sub(/:.*/, "", n); gsub(/ /, ", ", n); printf "  make %-48s %s\n", n, $$2 }' Makefile
	@echo

.DEFAULT_GOAL := build

# ---- how ----------------------------------------------------------------------------------------------------------

.PHONY: packages
packages:
	@.ci/packages

# By content, not by date: a checkout touches files that have not changed.
node_modules/.installed: package-lock.json .npmrc
	$(Q)if ! cmp -s package-lock.json $@; then printf '  %-7s %s\n' NPM 'ci'; npm ci --ignore-scripts --loglevel=error; fi
	$(Q)cp package-lock.json $@

build/bpf/%.bpf.o: bpf/%.bpf.c | build/bpf packages
	$(say) BPF $@
	$(Q)$(CLANG) $(BPF_FLAGS) -MMD -MP -MF build/bpf/$*.d -c $< -o $@

build/bpf/test/%.bpf.o: test/bpf/%.bpf.c | build/bpf/test packages
	$(say) BPF $@
	$(Q)$(CLANG) $(BPF_FLAGS) -MMD -MP -MF build/bpf/test/$*.d -c $< -o $@
-include $(wildcard build/bpf/*.d build/bpf/test/*.d)

build/bpf build/bpf/test:
	$(Q)mkdir -p $@

# Headers of the very node that runs; configured anew when a file comes or goes.
build/.native: binding.gyp $(NATIVE_SOURCES) build/.native-files | packages node_modules/.installed
	$(say) CXX 'build/Release/*.node'
	$(Q).ci/native $(V)
	$(Q)touch $@

build/.proto: $(PROTO_SOURCES) | build/bpf node_modules/.installed
	$(say) PROTO proto/gen
	$(Q)if [ -e proto/generate.sh ]; then bash proto/generate.sh; fi
	$(Q)touch $@

build/.dist: $(TS_SOURCES) build/.dist-files build/.proto tsconfig.json package.json | node_modules/.installed
	$(say) TSC dist
	$(Q).ci/typescript
	$(Q)touch $@

# A list that changes only when a file comes or goes.
build/.native-files: always | build/bpf
	@printf '%s\n' $(NATIVE_SOURCES) | cmp -s - $@ || printf '%s\n' $(NATIVE_SOURCES) >$@
build/.dist-files: always | build/bpf
	@printf '%s\n' $(TS_SOURCES) | cmp -s - $@ || printf '%s\n' $(TS_SOURCES) >$@
.PHONY: always
always:
