# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# The two commands of the README, `make demo` and `make test`, and what they are made of. Each prints one line per stage.

BUILD := build
JOBS ?= $(shell nproc)
CLANG_FORMAT ?= clang-format-22
# On a terminal ninja shows its progress in one line; elsewhere it would print a line per file.
NINJA := ninja -C $(BUILD) -j$(JOBS) $(shell test -t 2 || echo --quiet)

.PHONY: demo test build setup configure format clean

demo: setup configure
	@echo "== build: the compiler and the runtime (first time: up to 10 minutes on 2 cores)"
	@$(NINJA) kvasir
	@echo "== demo: build/bin/kvasir demo"
	@$(BUILD)/bin/kvasir demo
	@echo "== report: $(CURDIR)/report.html"

build: setup configure
	@echo "== build: everything, tests included"
	@$(NINJA)

test: build
	@echo "== test: lit, unit tests, lints"
	@scripts/run-tests.sh $(BUILD)

setup:
	@echo "== packages: scripts/setup.sh"
	@scripts/setup.sh

configure: setup
	@echo "== configure: cmake --preset release"
	@test -f $(BUILD)/build.ninja || cmake --preset release > configure.log 2>&1 || { cat configure.log; exit 1; }
	@rm -f configure.log

format:
	@command -v $(CLANG_FORMAT) > /dev/null || { echo "format: needs $(CLANG_FORMAT): apt-get install clang-format-22"; exit 2; }
	@echo "== format: $(CLANG_FORMAT)"
	@git ls-files -z '*.cpp' '*.h' | xargs -0 $(CLANG_FORMAT) -i

clean:
	@echo "== clean: build folders"
	@rm -rf $(BUILD) build-dev build-asan
