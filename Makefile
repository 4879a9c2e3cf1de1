# The front door. Each target brings what it needs first (compat-tests/setup), and says what it installs.

SETUP := compat-tests/setup/install
CARGO := cargo
# Tests and benchmark start containers; without root, only they run under sudo, never the compiler.
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),--config 'target."cfg(all())".runner = "sudo -E"')
PREFIX ?= /usr/local
# What `tee` keeps is for compat-tests/report; the exit code is that of what ran before the pipe.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
KEEP := 2>&1 | tee -a target/report

.DEFAULT_GOAL := help
.PHONY: help run demo test check oracle fuzz-api bench install clean build

help: ## Lists what can be made.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

run: build ## Starts dockplugd and prints the export to paste.
	@compat-tests/setup/run

demo: build ## The whole story in one go: a real plugin made, enabled, used, removed.
	@$(SETUP) demo
	@compat-tests/demo

test: ## Everything that is proven: lints, unit and end-to-end tests on both runtimes and engines, other people's clients; a report.
	@$(SETUP) build run demo test peer
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	@mkdir -p target/report && rm -rf target/report/*
	. compat-tests/setup/path; $(CARGO) $(AS_ROOT) test --locked $(KEEP)/cargo.txt
	. compat-tests/setup/path; COMPAT_RUNTIME=runc $(CARGO) $(AS_ROOT) test --locked --lib -- runtime:: plugins::tests $(KEEP)/cargo-runc.txt
	. compat-tests/setup/path; COMPAT_RUNTIME=runc $(CARGO) $(AS_ROOT) test --locked --test compat $(KEEP)/cargo-runc.txt
	. compat-tests/setup/path; COMPAT_ENGINE=dockerd $(CARGO) $(AS_ROOT) test --locked --test compat -- engine $(KEEP)/cargo-dockerd.txt
# The report tells what failed, and that something has not run: it decides.
	compat-tests/clients/run || true
	compat-tests/report

check: ## Quick: formatting, lints, unit tests.
	@$(SETUP) build run demo test
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	. compat-tests/setup/path; $(CARGO) $(AS_ROOT) test --locked --lib

oracle: ## Runs the end-to-end tests against a real dockerd: what they claim, it does.
	@$(SETUP) build run demo test peer
	. compat-tests/setup/path; COMPAT_DAEMON=dockerd $(CARGO) $(AS_ROOT) test --locked --test compat

fuzz-api: ## Makes many requests of api-spec/openapi.yaml, others each time; several minutes.
	@$(SETUP) build run demo test
	$(CARGO) build --locked --bin dockplugd
	compat-tests/clients/run --long schemathesis

bench: ## Measures dockplugd and dockerd side by side; a few minutes, one table.
	@$(SETUP) build run demo test peer
	$(CARGO) build --release --locked --bin dockplugd --example bench
	. compat-tests/setup/path; $(CARGO) $(AS_ROOT) run --release --locked --quiet --example bench

install: build ## Puts dockplugd into PREFIX/bin (/usr/local/bin).
	install -D -m 755 target/release/dockplugd $(DESTDIR)$(PREFIX)/bin/dockplugd

build: ## Builds the release binary.
	@$(SETUP) build run
	$(CARGO) build --release --locked --bin dockplugd

clean: ## Removes everything that was built or unpacked.
	$(CARGO) clean
