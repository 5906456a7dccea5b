# Only Python 3.11 or newer, pip and make are needed. VENV and PYTHON may be set on the command line.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal --durations=20

.PHONY: help quickstart test test-all lint notes setup setup-dev results lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: setup  ## set up, then search softmax regression's settings on handwritten digits and compare the runs
	$(BIN)/python -m pipelines.sweep run sweeps/digits.yaml --engine local
	$(BIN)/python -m pipelines.compare $$(ls -td logs/sweeps/digits-* | head -1)

test: setup-dev  ## set up, then run the fast tests
	$(PYTEST) -m "not slow"

test-all: setup-dev  ## set up, then run every test: kills, several processes, Ray, W&B agents, the browser
	$(PYTEST)

lint: setup-dev  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

notes: $(VENV)/.installed-notes  ## build the notes as a site in build/notes: formulas, code, results, search
	$(BIN)/python -m docs.site.build

# Each environment is installed once per lock file: the marker is newer than the lock until the lock changes.
setup: $(VENV)/.installed  ## install what running needs, and the project itself, into VENV (.venv)
setup-dev: $(VENV)/.installed-dev  ## install what tests, lint and benchmarks need on top

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.installed-notes: requirements-notes.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-notes.lock
	@touch $@

results: setup  ## write the figures of results.yaml into RESULTS.md and README.md
	$(BIN)/python -m docs.render_results

lock:  ## resolve requirements*.txt into the lock files; needs uv
	uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" requirements.txt -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" requirements-dev.txt -c requirements.lock -o requirements-dev.lock
	uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" requirements-notes.txt -c requirements-dev.lock -o requirements-notes.lock

clean:  ## remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build *.egg-info
