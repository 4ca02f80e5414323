# One-line calls. What they do lives in src/ (the program) and bootstrap/toolchain (what a
# fresh machine lacks). ARGS reaches the program: make services-logs ARGS="redis".

SHELL     := /bin/bash
TOOLCHAIN := bootstrap/toolchain
CARGO     ?= cargo
OPS       := target/quick/comind-ops

.DEFAULT_GOAL := help
.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##### Run

.PHONY: setup setup-test setup-bench setup-cluster build release ready up down status
setup: ## Install what running needs and this machine lacks
	@$(TOOLCHAIN)/setup run
setup-test: ## … what the tests need
	@$(TOOLCHAIN)/setup test
setup-bench: ## … what the comparisons need
	@$(TOOLCHAIN)/setup bench
setup-cluster: ## … what a Kubernetes cluster on this machine needs
	@$(TOOLCHAIN)/setup cluster
build: ## Build the program that `up` runs (quick to compile)
	@$(TOOLCHAIN)/setup --quiet build
	@$(CARGO) build --profile quick --locked
release: ## Build the program as it is shipped and measured
	@$(TOOLCHAIN)/setup --quiet build
	@$(CARGO) build --release --locked
ready: # both side by side
	@$(TOOLCHAIN)/setup --quiet build
	@$(MAKE) --no-print-directory -j2 setup build
up: ready ## Start everything: services, collector, live page
	@$(OPS) up $(ARGS)
down: build ## Stop what `up` started
	@$(OPS) down
status: build ## What runs, and how it is
	@$(OPS) status

.PHONY: services-setup services-start services-stop services-status services-logs services-clean
services-setup: ready ## Create the data services and start them
	@$(OPS) services setup $(ARGS)
services-start: ready ## Start them
	@$(OPS) services start $(ARGS)
services-stop: ready ## Stop them; data stays
	@$(OPS) services stop $(ARGS)
services-status: ready ## Their state
	@$(OPS) services status $(ARGS)
services-logs: ready ## Their logs
	@$(OPS) services logs $(ARGS)
services-clean: ready ## Remove them and their data; asks first
	@$(OPS) services clean $(ARGS)

.PHONY: bootstrap check-deps destroy cleanup check-plan argo-login argo-apps gitops-status
bootstrap: setup-cluster ready ## From nothing to a platform: services, cluster, Argo CD, GitOps (root); PROFILE=local ENV=dev
	@$(OPS) bootstrap $(ARGS)
check-deps: build ## What this machine lacks for bootstrap, and what to do; ARGS=--fix
	@$(OPS) doctor $(ARGS)
check-plan: setup-cluster ready ## What bootstrap would do; exit 2 if that is anything
	@$(OPS) bootstrap --plan $(ARGS)
destroy cleanup: build ## Take down what bootstrap has made; asks first; ARGS=--volumes for the data too
	@$(OPS) destroy $(ARGS)
argo-login: build ## The logins of Argo CD and of the repository
	@$(OPS) gitops login $(ARGS)
argo-apps gitops-status: build ## Argo CD's applications, and why one is not as it should be
	@$(OPS) gitops status $(ARGS)

.PHONY: cluster-create cluster-start cluster-stop cluster-status cluster-delete
cluster-create: setup-cluster build ## Make a Kubernetes cluster of plain processes (root); ENV=dev|stage|qa|prod
	@$(OPS) cluster create $(ARGS)
cluster-start: setup-cluster build ## Start it again
	@$(OPS) cluster start $(ARGS)
cluster-stop: build ## Stop it; what it keeps stays
	@$(OPS) cluster stop $(ARGS)
cluster-status: build ## How its programs stand
	@$(OPS) cluster status $(ARGS)
cluster-delete: build ## Remove it with all that it keeps; asks first
	@$(OPS) cluster delete $(ARGS)

.PHONY: tf-plan tf-apply tf-output diagnose
tf-plan: setup-cluster build ## What Terraform would make; exit 2 if that is anything (root)
	@$(OPS) tf plan $(ARGS)
tf-apply: setup-cluster build ## Make the cluster by Terraform (root)
	@$(OPS) tf apply $(ARGS)
tf-output: build ## What others may build upon
	@$(OPS) tf output $(ARGS)
.PHONY: bundle
bundle: setup-cluster ready ## All that bootstrap needs, as one file for machines without a network
	@$(OPS) bundle create $(ARGS)
diagnose: build ## All that is known of what does not work, without secrets, as one file
	@$(OPS) diagnose $(ARGS)

.PHONY: monitoring-access
monitoring-access: build ## One address for all pages, by ingress, Service or tunnel; ARGS="grafana --open --ttl 8h"
	@$(OPS) access $(ARGS)

##### Check

.PHONY: conformance-gateway
conformance-gateway: setup-cluster ## The official suite of the Gateway API against the proxy, on a cluster of its own (root)
	@$(TOOLCHAIN)/setup conformance
	@$(CARGO) build --locked
	@tests/conformance/gateway $(ARGS)

# Much of a test is waiting for servers. Two a core end no sooner, and have the machine late for what is tested.
TEST_THREADS ?= $(shell echo $$(($$(nproc) + 1)))

.PHONY: test test-build selftest fmt lint deny fuzz
test: ## All tests, against real servers
	@$(TOOLCHAIN)/setup --quiet build
	@$(MAKE) --no-print-directory -j2 setup-test test-build
	@$(TOOLCHAIN)/selftest
	@RUST_TEST_THREADS=$(TEST_THREADS) CARGO=$(CARGO) tests/run --locked --workspace --no-fail-fast
test-build: # compiles the tests without running them
	@$(CARGO) test --locked --workspace --no-run
selftest: ## The toolchain's own tests (seconds, no network)
	@$(TOOLCHAIN)/selftest
fmt: ## Format the code
	@$(CARGO) fmt --all
lint: ## Formatting and clippy, warnings denied
	@$(CARGO) fmt --all -- --check
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
deny: ## Bans, licences and sources of dependencies
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	@$(CARGO) deny --locked check bans licenses sources
FUZZ_SECONDS ?= 60
FUZZ := RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run
fuzz: ## Fuzz each target for FUZZ_SECONDS (needs cargo-fuzz; fuzz/README.md)
	@mkdir -p fuzz/corpus/config
	@$(FUZZ) config fuzz/corpus/config fuzz/seeds/config -- -max_total_time=$(FUZZ_SECONDS) -dict=fuzz/yaml.dict -timeout=10 -rss_limit_mb=2048
	@for target in last_event_id proxy_head proxy_preface proxy_request proxy_route; do \
		$(FUZZ) $$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 || exit 1; done

.PHONY: bench-access bench-detection bench-cost bench-schedule bench-scrape bench-alert bench-page bench-watch bench-proxy bench-tunnel bench-revoke
bench-access: setup-cluster release ## One URL while the ingress is killed and comes back, on a real cluster (root)
	@$(CARGO) run --release --locked -p comind-bench -- access
bench-detection: setup-bench release ## Delay from a fault to the event, beside the exporters
	@$(CARGO) run --release --locked -p comind-bench -- detection
bench-cost: setup-bench release ## CPU and memory per probe, beside the exporters
	@$(CARGO) run --release --locked -p comind-bench -- cost
bench-schedule: setup-bench release ## Whether dead targets make living ones late
	@$(CARGO) run --release --locked -p comind-bench -- schedule
bench-scrape: setup-bench release ## What a scrape of 1,000 targets takes
	@$(CARGO) run --release --locked -p comind-bench -- scrape
bench-alert: setup-bench release ## Delay from a kill to the alert in Alertmanager, beside Prometheus
	@$(CARGO) run --release --locked -p comind-bench -- alert
bench-page: release ## What the live page costs with 500 targets and 10,000 transitions
	@$(CARGO) run --release --locked -p comind-bench -- page
bench-proxy: setup-bench release ## The ingress proxy beside nginx and HAProxy, one worker each
	@$(CARGO) run --release --locked -p comind-bench -- proxy
	@$(CARGO) run --release --locked -p comind-bench -- proxy-many
bench-tunnel: setup-cluster release ## Tunnels beside kubectl port-forward on a real cluster (root): rates, survival
	@$(CARGO) run --release --locked -p comind-bench -- tunnel
bench-revoke: setup-bench release ## How long a live WebSocket outlives the end of its session
	@$(CARGO) run --release --locked -p comind-bench -- revoke
bench-watch: setup-bench release ## Delay from a change of an Argo CD application to the event
	@$(CARGO) run --release --locked -p comind-bench -- watch
