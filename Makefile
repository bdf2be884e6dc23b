# Every target installs what it needs. A fresh machine needs only Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat requirements.lock requirements-torch.txt Makefile pyproject.toml | cksum | cut -d' ' -f1)
BROWSER := $(VENV)/.browser-installed
PARALLEL := -n logical --maxprocesses 4 --dist
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup run test unit integration test-browser screenshots bench curves faults chaos cluster-test autoscale updates scale soak overload drill-watch drill-skill lint fmt types layers alerts audit docs docs-site docs-serve contract lock manifests validate-deploy load fuzz mutants ci clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## virtual environment with the locked dependencies

$(STAMP):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements.lock && $(BIN)/pip install -q -r requirements-torch.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e . && touch $@

$(BROWSER): requirements-browser.lock $(STAMP)
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements-browser.lock && touch $@

run: setup ## start the service with its embedded model on http://127.0.0.1:8000; PORT=8001 for another port
	@$(BIN)/python -m serve_app.launch.launcher serve_config.yaml $(PORT)

test: setup unit integration ## run every test, with coverage and the doctests
	@if command -v chromium-headless-shell || command -v chromium; then $(MAKE) test-browser; \
	else echo "NO BROWSER TESTS: there is no Chromium on this machine; apt-get install chromium-headless-shell"; fi

unit: setup # a process for each core, four at most
	$(BIN)/python -m pytest tests/unit runner serve_app tsfm_client loadtest/drills --doctest-modules -q $(PARALLEL) worksteal --cov --cov-report=
	$(BIN)/coverage report --include='runner/*' --fail-under=100 --show-missing --skip-covered
	$(BIN)/coverage report --fail-under=90 --skip-covered

integration: setup ## test a real local Serve with the stand-in runtime
	$(BIN)/python -m pytest tests/integration -q -n 3 # the parts of tests/integration/conftest.py

test-browser: setup $(BROWSER) ## test the web pages in a real Chromium
	$(BIN)/python -m pytest tests/browser -q $(PARALLEL) loadfile

screenshots: setup $(BROWSER) ## take the pictures of the console in docs/images
	$(BIN)/python -m tests.browser.screenshots

lint: setup ## check style and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

fmt: setup ## fix style and format
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: setup ## check types with mypy
	$(BIN)/mypy

layers: setup ## check which package may import which
	$(BIN)/lint-imports

docs: setup ## write the pages that are generated from the code
	$(BIN)/python .ci/config_reference.py

docs-site: setup ## build the documentation as a site, in site/; wrong links fail
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements-docs.lock
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q --strict

docs-serve: docs-site ## show the documentation on http://127.0.0.1:8003; pages in docs/ follow your edits
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve -a 127.0.0.1:8003

alerts: ## test the alert rules with promtool
	promtool check config deploy/prometheus/prometheus.yaml
	promtool test rules deploy/prometheus/alerts_test.yaml

audit: setup ## look for known vulnerabilities in every locked package
	$(BIN)/python .ci/audit.py

contract: setup ## record the interface of this version; later versions are checked against it
	$(BIN)/python -m tests.contract

lock: setup ## lock the dependencies again from pyproject.toml
	$(BIN)/uv pip compile -q pyproject.toml --all-extras --python-version 3.11 --universal --generate-hashes --no-emit-package torch --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements.lock
	$(BIN)/uv pip compile -q --group browser -c requirements.lock --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements-browser.lock
	$(BIN)/uv pip compile -q --group mutants -c requirements.lock --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements-mutants.lock
	$(BIN)/uv pip compile -q --group docs -c requirements.lock --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements-docs.lock
	$(BIN)/uv pip compile -q pyproject.toml --extra image --python-version 3.11 --python-platform linux --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -c requirements.lock -o deploy/requirements.lock

manifests: ## write the generated copies under deploy/ (needs kubectl or kustomize)
	$(PYTHON) .ci/manifests.py

validate-deploy: setup ## check the Serve config, the Kubernetes manifests and the Dockerfile
	$(BIN)/python -m pytest tests/unit/deploy -q

bench: setup ## compare the service with an empty Serve application and with the runtime alone; RUNTIME_URL=... for a real one
	$(BIN)/python -m loadtest.drills.compare $(if $(RUNTIME_URL),--runtime-url $(RUNTIME_URL),--write docs/measurements.md)

curves: setup ## does the cost grow linearly with points, horizon and series?
	$(BIN)/python -m loadtest.drills.curves --write docs/measurements.md

faults: setup ## every runtime fault in turn: is every answer valid and in time?
	@$(BIN)/python -m loadtest.drills.faults

chaos: setup ## kill and stop every process of the service in turn
	@$(BIN)/python -m loadtest.drills.chaos

autoscale: setup ## a step in the load: how soon do Runners start and stop, and what do callers notice?
	@$(BIN)/python -m loadtest.drills.autoscale

updates: setup ## update a service under load: a setting, the code, a roll-back; about 8 minutes
	@$(BIN)/python -m loadtest.drills.updates

scale: setup ## how many processes does a load need, and how well does the rule predict it?
	@$(BIN)/python -m loadtest.drills.scale

soak: setup ## impatient callers for MINUTES (10) at RATE (50/s): does memory or anything else grow?
	@$(BIN)/python -m loadtest.drills.soak --minutes $(or $(MINUTES),10) --rate $(or $(RATE),50)

overload: setup ## three times the sustainable load: what is shed first, how fast is the rest?
	@$(BIN)/python -m loadtest.drills.overload

drill-watch: setup ## watch 500 markets, and kill the watch again and again: is an alert lost?
	@$(BIN)/python -m tests.drill_watch

drill-skill: setup ## markets that a model is good at and others: is it asked for those alone?
	@$(BIN)/python -m tests.drill_skill

cluster-test: setup ## a cluster on this machine: add, kill and drain nodes, lose controller and head
	@$(BIN)/python -m loadtest.drills.cluster

load: setup ## start locust's web page for a running service
	$(BIN)/locust -f loadtest/locustfile.py --host http://127.0.0.1:8000

fuzz: setup ## send ten thousand hostile bodies and show what the worst cost; FUZZ_ARGS='--url http://127.0.0.1:8000' for a running service
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

mutants: setup ## do the tests find inserted faults in breaker, dispatcher and cache? half an hour
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements-mutants.lock
	rm -rf mutants && $(BIN)/mutmut run && $(BIN)/python .ci/mutants.py

ci: lint types layers audit docs-site test ## run what continuous integration runs

clean: ## remove what the targets created
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage htmlcov .hypothesis mutants site
