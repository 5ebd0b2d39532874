# What a developer and CI run. A stamp in .venv says what is installed, so that a second run starts at once and needs no
# network. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Further arguments of pytest, as in: make test PYTEST="-k smuggling -x"
PYTEST ?=

# Most tests wait for sockets: more of them at once than there are cores
WORKERS ?= 4

.DEFAULT_GOAL := help
.PHONY: help run test smoke cover bench bench-lint chaos fuzz soak audit lock check format mtas clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: $(VENV)/installed ## listen on 127.0.0.1 in front of the embedded next hop
	@exec $(BIN)/smtpguard serve --sandbox

test: $(VENV)/installed-dev mtas ## all that needs no load; with a real Postfix and Exim where they can be had
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST)

smoke: $(VENV)/installed ## make run, and what README.md does next
	$(BIN)/python tests/smoke.py

cover: $(VENV)/installed-dev mtas ## make test, with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered $(PYTEST)

bench: $(VENV)/installed-dev mtas ## what a message costs, beside Postfix and others; shorter: make bench BENCH=--quick
	$(BIN)/python -m tests.bench $(BENCH)

bench-lint: $(VENV)/installed-dev ## what the lint costs by family of rules; also as JSON: make bench-lint BENCH="--json FILE"
	$(BIN)/python -m tests.bench.lintcost $(BENCH)

chaos: $(VENV)/installed-dev ## play faults against it; shorter: make chaos CHAOS=--quick, longer: CHAOS="--seconds 3600"
	$(BIN)/python -m tests.chaos $(CHAOS)

fuzz: $(VENV)/installed-dev ## hostile octets for every reader, ten minutes; longer: make fuzz FUZZ="--seconds 3600"
	@$(PIP) install atheris || echo 'fuzz: no atheris for this Python or platform: hypothesis does it'
	$(BIN)/python -m tests.fuzz $(FUZZ)

soak: $(VENV)/installed-dev ## an hour of mixed load, memory and descriptors watched; shorter: make soak SOAK="--minutes 10"
	$(BIN)/python -m tests.soak $(SOAK)

audit: $(VENV)/installed ## known vulnerabilities of what is installed; needs the network
	@$(PIP) install pip-audit
	$(BIN)/python -m pip_audit --local --skip-editable

lock: $(VENV)/installed ## the newest packages that pyproject.toml allows, with their hashes, into deploy/requirements.txt; needs the network
	@$(PIP) install uv
	@sed '/^[^#]/,$$d' deploy/requirements.txt > $(VENV)/lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra postgres --generate-hashes --no-header pyproject.toml >> $(VENV)/lock
	mv $(VENV)/lock deploy/requirements.txt

check: $(VENV)/installed-dev ## format, lint, types, imports, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	$(BIN)/python -m smtpguard.config.sample | diff -u config/smtpguard.toml -
	$(BIN)/python -m smtpguard.classify.reference | diff -u config/classification.md -
	$(BIN)/python -m smtpguard.lint.reference | diff -u config/lint.md -

format: $(VENV)/installed-dev ## fix what ruff can fix, generate what is generated
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m smtpguard.config.sample > config/smtpguard.toml
	$(BIN)/python -m smtpguard.classify.reference > config/classification.md
	$(BIN)/python -m smtpguard.lint.reference > config/lint.md

clean: ## forget the virtual environment and all caches
	rm -rf $(VENV) .cache build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "smtpguard needs Python 3.11 or later: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/installed

# The programs of tests/e2e and tests/deploy. Never fails: what cannot be had is said there, and its tests are skipped.
mtas:
	@sh tests/e2e/install.sh
	@sh tests/dns/install.sh
	@sh tests/history/install.sh
	@sh tests/deploy/install.sh
