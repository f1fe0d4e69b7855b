# What people type. Everything else is cargo.
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help demo test sim chaos pacing bench fuzz mutants install-tools

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

demo: ## a whole campaign in one process, about half a minute
	$(CARGO) run --locked --release -- demo

test: install-tools ## formatting, lints, every test
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked

sim: ## seeded disasters in simulated time: SEEDS worlds from seed FIRST on; make sim SEEDS=1 FIRST=4711 repeats one
	SIM_SEEDS=$(or $(SEEDS),100000) SIM_FIRST=$(or $(FIRST),0) $(CARGO) test --locked --release --test sim -- --nocapture disasters

chaos: install-tools ## real kills and cuts: ROUNDS rounds from seed FIRST on, SIDE_BY_SIDE=3 at a time; make chaos CASE=daemon (or send, pause) ROUNDS=1 FIRST=7 repeats one
	CHAOS_ROUNDS=$(or $(ROUNDS),200) CHAOS_FIRST=$(or $(FIRST),0) CHAOS_SIDE_BY_SIDE=$(or $(SIDE_BY_SIDE),3) $(CARGO) test --locked --test chaos -- --nocapture --test-threads 1 $(CASE)

pacing: ## the pacer against a simulated gateway: SEEDS runs of each kind from seed FIRST on; prints its figures; make pacing SEEDS=1 FIRST=17 CASE=jitter repeats one
	PACING_SEEDS=$(or $(SEEDS),1000) PACING_FIRST=$(or $(FIRST),0) $(CARGO) test --locked --release --test pacing -- --nocapture $(CASE)

bench: ## CPU per job, memory, pacing; see benches/
	$(CARGO) bench --locked

SECONDS ?= 60
LAW ?= $(basename $(notdir $(wildcard tests/fuzz/targets/*.rs)))

fuzz: ## libFuzzer on each law in src/laws.rs for SECONDS=60, or on one by LAW=job; needs cargo-fuzz and g++
	@for law in $(LAW); do \
		mkdir -p tests/fuzz/corpus/$$law; \
		dict=tests/fuzz/dictionaries/$$law.dict; \
		$(CARGO) fuzz run --fuzz-dir tests/fuzz --sanitizer none $$law tests/fuzz/corpus/$$law tests/fuzz/seeds/$$law -- \
			-max_total_time=$(SECONDS) -max_len=4096 -timeout=10 $$(test -e $$dict && echo -dict=$$dict) || exit 1; \
	done

mutants: ## changes the deciding code bit by bit: each change must fail a test; FILE=src/outcome.rs for one; needs cargo-mutants, hours
	$(CARGO) mutants --timeout 120 $(if $(FILE),--no-config --file $(FILE) -- --lib)

install-tools: ## what the tests need and a fresh machine lacks: RabbitMQ, systemd-analyze
	@set -e; for script in tests/support/install-*.sh; do sh "$$script"; done
