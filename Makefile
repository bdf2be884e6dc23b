# Every target sets up what it needs. Python 3.11 and make are all a fresh machine must have.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat requirements.lock requirements-torch.txt Makefile pyproject.toml | cksum | cut -d' ' -f1)
PARALLEL := -n logical --maxprocesses 4 --dist
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup run test unit integration test-browser screenshots bench curves faults chaos cluster-test autoscale updates scale soak overload lint fmt types layers alerts audit docs contract lock manifests validate-deploy load fuzz mutants ci clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## virtual environment with everything locked

$(STAMP):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements.lock && $(BIN)/pip install -q -r requirements-torch.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e . && touch $@

run: setup ## the service with its embedded model on http://127.0.0.1:8000
	@$(BIN)/python -m serve_app.launch.launcher

test: setup unit integration ## every test, with coverage and the doctests
	@if command -v chromium-headless-shell || command -v chromium; then $(MAKE) test-browser; \
	else echo "NO BROWSER TESTS: there is no Chromium on this machine; apt-get install chromium-headless-shell"; fi

unit: setup # a process for each core, four at most
	$(BIN)/python -m pytest tests/unit runner serve_app loadtest/drills --doctest-modules -q $(PARALLEL) worksteal --cov --cov-report=
	$(BIN)/coverage report --include='runner/*' --fail-under=100 --show-missing --skip-covered
	$(BIN)/coverage report --fail-under=90 --skip-covered

integration: setup ## a real local Serve with the stand-in runtime
	$(BIN)/python -m pytest tests/integration -q

test-browser: setup ## the web pages in a real chromium
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements-browser.lock
	$(BIN)/python -m pytest tests/browser -q $(PARALLEL) loadfile

screenshots: setup ## the pictures of the console in docs/images
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements-browser.lock
	$(BIN)/python -m tests.browser.screenshots

lint: setup ## style and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

fmt: setup ## write the format
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: setup ## mypy
	$(BIN)/mypy

layers: setup ## who may import whom
	$(BIN)/lint-imports

docs: setup ## the pages that are written from the code
	$(BIN)/python .ci/config_reference.py

alerts: ## the alert rules against their tests, by promtool
	promtool check config deploy/prometheus/prometheus.yaml
	promtool test rules deploy/prometheus/alerts_test.yaml

audit: setup ## known vulnerabilities of everything locked
	$(BIN)/python .ci/audit.py

contract: setup ## the interface of this version, for later versions to be held against
	$(BIN)/python -m tests.contract

lock: setup ## lock the dependencies anew from pyproject.toml
	$(BIN)/uv pip compile -q pyproject.toml --all-extras --python-version 3.11 --universal --generate-hashes --no-emit-package torch --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements.lock
	$(BIN)/uv pip compile -q --group browser -c requirements.lock --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements-browser.lock
	$(BIN)/uv pip compile -q --group mutants -c requirements.lock --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements-mutants.lock
	$(BIN)/uv pip compile -q pyproject.toml --extra image --python-version 3.11 --python-platform linux --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -c requirements.lock -o deploy/requirements.lock

manifests: ## write what stands twice under deploy/ (needs kubectl or kustomize)
	$(PYTHON) .ci/manifests.py

validate-deploy: setup ## the Serve config, the Kubernetes manifests and the Dockerfile
	$(BIN)/python -m pytest tests/unit/deploy -q

bench: setup ## the service against an empty Serve application and the bare runtime
	$(BIN)/python -m loadtest.drills.compare --write docs/performance.md

curves: setup ## does the cost grow linearly with points, horizon and series?
	$(BIN)/python -m loadtest.drills.curves --write docs/performance.md

faults: setup ## every fault of the runtime in turn: is there a valid answer in time?
	@$(BIN)/python -m loadtest.drills.faults

chaos: setup ## every process of the service killed and stopped in turn
	@$(BIN)/python -m loadtest.drills.chaos

autoscale: setup ## a step in the load: how soon do Runners come and go, and what do callers notice?
	@$(BIN)/python -m loadtest.drills.autoscale

updates: setup ## a deployed service under load: a setting, the code and a roll-back; about 8 minutes
	@$(BIN)/python -m loadtest.drills.updates

scale: setup ## how much of everything does a load need, and how good is the model?
	@$(BIN)/python -m loadtest.drills.scale

soak: setup ## impatient callers for MINUTES (10) at RATE (50/s): does anything grow?
	@$(BIN)/python -m loadtest.drills.soak --minutes $(or $(MINUTES),10) --rate $(or $(RATE),50)

overload: setup ## three times what the service sustains: who is shed first, how fast is the rest?
	@$(BIN)/python -m loadtest.drills.overload

cluster-test: setup ## nodes of a cluster added, killed, drained on this machine, its controller and its head lost
	@$(BIN)/python -m loadtest.drills.cluster

load: setup ## locust's web page against a running service
	$(BIN)/locust -f loadtest/locustfile.py --host http://127.0.0.1:8000

fuzz: setup ## ten thousand hostile bodies, and what the worst cost; FUZZ_ARGS='--url http://127.0.0.1:8000' for a running service
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

mutants: setup ## would a test notice a fault in breaker, dispatcher or cache? half an hour
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements-mutants.lock
	rm -rf mutants && $(BIN)/mutmut run && $(BIN)/python .ci/mutants.py

ci: lint types layers audit test ## what continuous integration runs

clean: ## remove what the targets made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage htmlcov .hypothesis mutants
