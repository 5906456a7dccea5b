# make quickstart: set up, then search softmax regression's settings on handwritten digits and compare the runs.
# make test:       set up, then run all tests. make lint: style and types.
# Only Python 3.11 or newer, pip and make are needed. VENV and PYTHON may be set on the command line.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test lint setup setup-dev lock clean

quickstart: setup
	$(BIN)/python -m pipelines.sweep run sweeps/digits.yaml --engine local
	$(BIN)/python -m pipelines.compare $$(ls -td logs/sweeps/digits-* | head -1)

test: setup-dev
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

# Each environment is installed once per lock file: the marker is newer than the lock until the lock changes.
setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(VENV)/.installed: requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

lock:
	uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" requirements.txt -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" requirements-dev.txt -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
