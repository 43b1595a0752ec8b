# What can be done here. `make` alone tells.
.DEFAULT_GOAL := help
CARGO ?= cargo
JOBS ?= 5

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup build ## A good release and a bad one on real Kubernetes, Istio, Envoy and Prometheus
	./target/debug/surefoot-e2e demo

.PHONY: test
test: lint setup unit e2e ## Everything: what CI runs

.PHONY: lint
lint: ## Formatting and lints, of Rust and Go
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	tests/mutants/run.py --check
	cd e2e/controlplane && test -z "$$(gofmt -l .)"
	cd e2e/istiod && test -z "$$(gofmt -l .)"

.PHONY: unit
unit: ## Unit, property and golden tests; the pure crates also each alone
	$(CARGO) test --workspace --locked
	$(CARGO) check --package surefoot-stats --locked
	$(CARGO) check --package surefoot-core --locked
	$(CARGO) check --package surefoot-sim --locked
	$(CARGO) check --package surefoot-model --locked
	$(CARGO) check --package mesh-sandbox --locked
	! $(CARGO) tree --package surefoot-core --edges normal --prefix none --locked | grep -E '^(tokio|hyper|reqwest|kube-client) '

.PHONY: e2e
e2e: setup build ## Scenarios and measurements on the real parts (ONLY="name …" for some)
	./target/debug/surefoot-e2e run --jobs $(JOBS) $(ONLY)

.PHONY: fidelity
fidelity: setup ## kube-sandbox and a real kube-apiserver, asked the same (SEQUENCES=1000)
	$(CARGO) run --quiet --package kube-sandbox --example fidelity --locked -- .cache/bin/controlplane $(or $(SEQUENCES),1000)

.PHONY: scope
scope: setup build ## Record the requests that kube-sandbox must answer: its scope.txt
	./target/debug/surefoot-e2e scope crates/kube-sandbox/scope.txt

.PHONY: crash
crash: ## The controller crashed at every call, in memory (ONLY="story …", KINDS="before frozen …", POINTS=n: every nth, CALL=n: at the nth call)
	CRASH=all ONLY="$(ONLY)" KINDS="$(KINDS)" POINTS="$(POINTS)" CALL="$(CALL)" \
		$(CARGO) test --quiet --profile long --package surefoot --test crash --locked

.PHONY: week
week: ## A hundred Rollouts at rest for seven virtual days: calls, writes, seconds
	DAYS=$(or $(DAYS),7) ROLLOUTS=$(or $(ROLLOUTS),100) CARGO_PROFILE_RELEASE_LTO=off \
		$(CARGO) test --quiet --release --package surefoot --test week --locked

.PHONY: mutants
mutants: ## Disable each safety guard in turn and see what notices (ONLY="guard …" for some, E2E=1: stories, too)
	$(if $(E2E),e2e/setup)
	nice tests/mutants/run.py $(if $(E2E),--e2e) $(ONLY)

.PHONY: model
model: ## The protocol in a model checker (ONLY="--together 1 …" for other bounds)
	CARGO_PROFILE_RELEASE_LTO=off nice $(CARGO) run --quiet --release --package surefoot-model --locked -- $(ONLY)

.PHONY: build
build: ## The binaries, for development
	$(CARGO) build --workspace --locked

.PHONY: setup
setup: ## Fetch and build the real parts into .cache/ (minutes once, then nothing)
	e2e/setup

.PHONY: up
up: setup build ## The real parts with an example application, to try things by hand
	./target/debug/surefoot-e2e up

.PHONY: crds
crds: ## Write crds/ and docs/reference.md from the types
	$(CARGO) run --quiet --bin surefoot -- crds --directory crds
	$(CARGO) run --quiet --bin surefoot -- reference > docs/reference.md
