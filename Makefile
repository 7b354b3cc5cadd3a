PYTHON ?= python3
VENV ?= .venv
MATRIX ?= full
PYTEST_ARGS ?=

RUN = $(VENV)/bin/python
READY = $(VENV)/.ready
DASHBOARDS = .cache/dashboards/site

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## the environment in $(VENV), made from $(PYTHON)

demo: $(READY) ## the example shop under traffic, and what is found in it; DEMO_SECONDS=20 ends it, DEMO_PORT=8765
	@PYTHONPATH=examples/shop $(RUN) -m scripts.demo

test: $(READY) ## all tests, on a PostgreSQL of their own; PYTEST_ARGS="-k name"
	@$(RUN) -m pytest $(PYTEST_ARGS)

lint: $(READY) ## style, types, layers, version
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports --no-cache --no-logo
	@$(RUN) -m scripts.version

bench: $(READY) ## what profiling costs, against the same application without it
	@$(RUN) -m benchmarks
	@PYTHONPATH=examples/shop $(RUN) -m benchmarks.suite
	@$(RUN) -m benchmarks.explain

test-matrix: $(READY) ## the tests on oldest and newest dependencies and Pythons; MATRIX=quick or a row's name
	@$(RUN) -m scripts.matrix $(MATRIX) $(PYTEST_ARGS)

test-servers: $(READY) ## the tests of plans on PostgreSQL 13, 14, 16 and 17, which are fetched; needs npm
	@$(RUN) -m scripts.servers $(SERVERS)

clean: ## forget environments, databases and caches
	@for place in .cache/*/place; do if [ -L "$$place" ]; then rm -rf "$$(readlink "$$place")"; fi; done
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

$(READY): pyproject.toml constraints.txt scripts/install.sh
	@sh scripts/install.sh "$(PYTHON)" "$(VENV)"
	@touch $@

.PHONY: help venv demo test lint bench test-matrix test-servers clean

dashboards: $(READY) ## Grafana's JSON, from dashboards/src
	@$(RUN) -m dashboards.src

dashboards-check: $(READY) $(DASHBOARDS)/.ready ## types, linter, rules, containers and live queries; needs npm and prometheus
	@PYTHONPATH=$(DASHBOARDS) $(RUN) -m mypy --strict dashboards/src
	@PYTHONPATH=$(DASHBOARDS) DASHBOARDS_CHECK=1 $(RUN) -m pytest tests/dashboards $(PYTEST_ARGS)

stack: $(READY) ## the shop with Prometheus and Alertmanager, alerts that fire and clear; STACK_SECONDS=0 ends it then
	@PYTHONPATH=examples/shop $(RUN) -m scripts.stack

stack-pictures: $(READY) $(DASHBOARDS)/.ready ## docs/images, drawn from the stack's data
	@PYTHONPATH=examples/shop:$(DASHBOARDS) $(RUN) -m scripts.stack --seconds 120 --previews docs/images

$(DASHBOARDS)/.ready: dashboards/requirements.txt
	@$(RUN) -m pip --disable-pip-version-check -qq install --upgrade --target $(DASHBOARDS) -r $<
	@touch $@

.PHONY: dashboards dashboards-check stack stack-pictures
