# The few commands that a person needs; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
TARGET := x86_64-unknown-linux-gnu
# Tools that cargo builds are kept outside the tree, so that a clean clone does not build them again.
CACHE := $(or $(KCM_CACHE_DIR),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kcm)
TOOLS := $(CACHE)/tools
DENY_VERSION := 0.20.2
FUZZ_VERSION := 0.13.2

BUILD_PACKAGES := gcc libc6-dev
DEMO_PACKAGES := $(BUILD_PACKAGES) runc busybox-static
BENCH_PACKAGES := $(DEMO_PACKAGES) strace
# The CRI client of the tests is generated from its protocol.
CHECK_PACKAGES := $(BUILD_PACKAGES) protobuf-compiler
# Prometheus for promtool, python3-venv for what checks manifests.
TEST_PACKAGES := $(DEMO_PACKAGES) crun strace util-linux mount e2fsprogs xfsprogs acl python3-minimal podman containerd umoci prometheus python3-venv

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the static executables dist/kcm and dist/kcm-hook
	@tests/require $(BUILD_PACKAGES)
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer, https://rustup.rs" >&2; exit 1; }
	cargo build --locked --release -p kcm -p kcm-hook
	@mkdir -p dist
	@# Renamed into place: a runtime may be executing the old one.
	@for name in kcm kcm-hook; do \
	  cp target/$(TARGET)/release/$$name dist/.$$name && mv -f dist/.$$name dist/$$name || exit 1; done

.PHONY: demo
demo: build ## Show a busybox container under real runc on a core of its own (root)
	@tests/require $(DEMO_PACKAGES)
	examples/quickstart/run

# The whole workspace in each command: with some of its packages, dependencies would be built once more
# with other features.
.PHONY: lint
lint:
	@tests/require $(CHECK_PACKAGES)
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: check
check: lint ## Format, lints, unit tests, model test
	cargo test --locked --workspace --lib --bins --test model

.PHONY: built-tests
built-tests: lint
	cargo test --locked --workspace --no-run --lib --bins --test '*'

.PHONY: test
test: ## All of check, real runtimes on this machine and in the guest (root)
	@tests/require $(TEST_PACKAGES) $(CHECK_PACKAGES)
	@tests/kubernetes-tools >/dev/null
	@tests/criu >/dev/null
	@# The release is optimised as one piece, by one thread; the other has the tests to build meanwhile.
	$(MAKE) --jobs=2 build built-tests
	tests/left-as-it-was cargo test --locked --workspace
	@# Once more where somebody lives: what looks at files that a machine may have already.
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(CURDIR)/tests/lived-in $(CURDIR)/tests/apart" tests/left-as-it-was \
	  cargo test --locked --workspace --test apart --test doctor --test install --test containerd -- --skip undisturbed
	tests/guest/run

.PHONY: deep
deep: build ## What takes long and is run before a release: fuzzing, ten minutes of chaos, 500 nodes (root)
	@tests/require $(TEST_PACKAGES) $(CHECK_PACKAGES) g++
	@[ -x $(TOOLS)/bin/cargo-fuzz ] || (cd / && cargo install --quiet --locked --root $(TOOLS) cargo-fuzz@$(FUZZ_VERSION))
	PATH="$(TOOLS)/bin:$$PATH" fuzz/run
	KCM_CHAOS_SECONDS=$(or $(KCM_CHAOS_SECONDS),600) cargo test --locked -p kcm-tests --test chaos -- --nocapture
	cargo test --locked -p kcm-tests --test five_hundred_nodes -- --nocapture
	@# With a minute of everything that a node can have to do, beside a core that is alone.
	KCM_QUIET_SECONDS=$(or $(KCM_QUIET_SECONDS),60) tests/guest/run trixie-shield

.PHONY: soak
soak: build ## An hour of chaos, after which nothing has grown (KCM_SOAK_SECONDS, root)
	@tests/require $(TEST_PACKAGES) $(CHECK_PACKAGES)
	cargo test --locked -p kcm-tests --test chaos -- --nocapture --ignored an_hour

.PHONY: bench
bench: build ## Measure what kcm costs, and write docs/benchmarks.md (root)
	@tests/require $(BENCH_PACKAGES)
	@# The profile of the tests: it only starts programs, and is built in seconds.
	cargo bench --locked --profile dev -p kcm-tests --bench figures

.PHONY: package
package: build ## Build the Debian package and the container image, in dist/
	packaging/deb/build
	packaging/image/build

.PHONY: ci
ci: test demo package ## All of test, the demo, licences and sources of the dependencies, shell scripts
	@tests/require shellcheck rsyslog logrotate lintian groff
	cargo test --locked --workspace --test packages
	rsyslogd -N1 -f packaging/syslog/rsyslog-kcm.conf
	logrotate --debug packaging/syslog/logrotate-kcm
	shellcheck fuzz/run findings/*.sh tests/{require,criu,kubernetes-tools,apart,left-as-it-was,lived-in,view.sh} tests/guest/{build,boot,run} tests/guest/inside/{initramfs-init,plain-init,run-job} examples/quickstart/run examples/noisy-neighbour/run packaging/{deb,image}/build
	@[ -x $(TOOLS)/bin/cargo-deny ] || (cd / && cargo install --quiet --locked --root $(TOOLS) cargo-deny@$(DENY_VERSION))
	$(TOOLS)/bin/cargo-deny --locked check licenses bans sources
