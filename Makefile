# Everything runs in .venv, which the first target to need it creates; see .ci/make-venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete
PYTEST := $(BIN)/pytest -n 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help venv demo servers test lint lint-container systemd-score type-matrix fault-table failure-order monitoring-check check acceptance bench \
    bench-quick docs lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

venv: $(STAMP) ## the environment, with the locked versions

$(STAMP): .ci/requirements.lock .ci/make-venv pyproject.toml
	@PYTHON="$(PYTHON)" .ci/make-venv
	@touch $@

demo: venv ## private servers, the real daemon, a workload, and the proof (DEMO_ARGS="--seconds 30")
	@$(BIN)/cdc-daemon demo $(DEMO_ARGS)

servers: ## what tests need of Debian's: PostgreSQL 15, MariaDB, MySQL 9, systemd's programs, Prometheus
	@.ci/install-postgresql
	@.ci/install-mariadb
	@.ci/install-mysql
	@.ci/install-systemd
	@.ci/install-prometheus

test: venv servers ## all tests but the long campaigns (PYTEST_ARGS="-k name")
	$(PYTEST) $(PYTEST_ARGS)

lint: venv ## format, style, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-container: venv ## hadolint's opinion of the Dockerfile
	$(BIN)/hadolint Dockerfile
	@echo "hadolint: clean"

systemd-score: venv ## systemd-analyze's opinion of the units: verify and security
	@.ci/install-systemd
	@.ci/systemd-score

type-matrix: venv servers ## every type by every way into every entity type: prints how many cells are equal
	$(BIN)/pytest -q -s -m "acceptance or not acceptance" tests/integration/test_type_matrix.py \
	    tests/integration/test_mysql_type_matrix.py tests/integration/test_mysql_types_end_to_end.py

fault-table: venv servers ## every fault on each kind of source and control database, and fault × result
	$(BIN)/pytest -n 2 --dist worksteal --timeout 0 -m fault --fault-table tests/integration $(PYTEST_ARGS)

failure-order: venv servers ## random lives of a failure queue, and kill -9 in it: nothing is overtaken; prints the counts
	$(BIN)/pytest -q -s --timeout 0 -m "acceptance or not acceptance" tests/acceptance/test_failure_order.py \
	    tests/acceptance/test_failure_kills.py

monitoring-check: venv servers ## alerts and dashboard: promtool, and a real Prometheus on a daemon
	promtool check rules config/monitoring/alerts.yml
	promtool test rules config/monitoring/alerts_test.yml
	$(BIN)/pytest tests/integration/test_monitoring.py tests/unit/test_operations_handbook.py

check: ## lint, then test
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test

acceptance: venv servers ## the long campaigns with recorded seeds
	@.ci/install-systemd acceptance
	$(BIN)/pytest -m acceptance --timeout 0 --fault-table $(PYTEST_ARGS)

bench: venv ## all benchmarks; writes benchmarks/results.json
	$(BIN)/python -m benchmarks

bench-quick: venv ## a tenth of it; writes nothing
	$(BIN)/python -m benchmarks --quick

docs: venv ## the pages that are generated from the code
	$(BIN)/cdc-daemon config reference > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md
	$(BIN)/python -m cdc_daemon.mapping.type_table > docs/types.md.new
	mv docs/types.md.new docs/types.md
	$(BIN)/python -m cdc_daemon.sinks.dispositions > docs/dispositions.md.new
	mv docs/dispositions.md.new docs/dispositions.md
	$(BIN)/python -m tests.support.man_pages docs/man

lock: venv ## choose versions anew (needs uv)
	uv pip compile pyproject.toml --extra demo --extra dev --universal --python-version 3.11 \
	    --generate-hashes --no-header --no-annotate --upgrade --output-file .ci/requirements.lock

clean: ## remove the environment and all caches
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
