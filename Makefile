# `make quickstart` and `make test` are all a newcomer needs: each makes .venv
# by itself, with the exact versions of requirements/lock.txt.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/installed
# What the quick start uses where it can be had: a natural voice, an outside ear.
EXTRAS := $(VENV)/voices $(VENV)/judge
PARITY := .venv-parity

# Test processes side by side; 0 runs them all in one process.
WORKERS ?= 2

# The first of these that is Python 3.11 or newer, or name one yourself:
# make PYTHON=/opt/python3.12/bin/python quickstart
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  >/dev/null 2>&1 && { echo "$$p"; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help install quickstart test parity parity-goldens lint format lock \
  clean

help:
	@echo 'make quickstart  from nothing to runs/quickstart/report.html'
	@echo 'make test        the whole test suite'
	@echo 'make parity      against other implementations, in .venv-parity'
	@echo 'make lint        ruff: rules and formatting'
	@echo 'make format      ruff: mend what can be mended'
	@echo 'make install     only make .venv'
	@echo 'make lock        write requirements/lock.txt from .venv'
	@echo 'make clean       remove caches; runs/ and .venv stay'

install: $(READY)

# A .venv that already holds the locked versions is left as it is: pip finds
# nothing to do.
$(READY): requirements/build.txt requirements/lock.txt setup.py
	@test -n "$(PYTHON)" || { echo 'error: no Python 3.11 or newer was found;' \
	  'install one, or name it: make PYTHON=/path/to/python3.11' >&2; exit 2; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -r requirements/build.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation \
	  -r requirements/lock.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

# Files that were looked at, by their digests. Where they cannot be had the quick
# start goes on, and its page says what was lost; the next call asks again.
$(EXTRAS): $(VENV)/%: requirements/%.txt $(READY)
	@$(BIN)/python -m pip install --retries 1 --no-deps --require-hashes -r $< \
	  && touch $@ \
	  || echo 'notice: $< cannot be installed; the quick start goes on' \
	    'without, and its report says what was lost' >&2

quickstart: $(READY) $(EXTRAS)
	$(BIN)/python -m tpu_launch quickstart

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	  --no-loadscope-reorder

# The peers live apart: nothing of them is needed to train or to test.
$(PARITY)/installed: requirements/build.txt requirements/lock.txt \
  requirements/parity.txt setup.py
	$(PARITY)/bin/python -m pip --version >/dev/null 2>&1 \
	  || $(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install -r requirements/build.txt
	$(PARITY)/bin/python -m pip install --no-deps --no-build-isolation \
	  -r requirements/lock.txt -r requirements/parity.txt
	$(PARITY)/bin/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

parity: $(PARITY)/installed
	$(PARITY)/bin/python -m pytest tests/parity

# Writes tests/golden/hf_*.safetensors again.
parity-goldens: $(PARITY)/installed
	$(PARITY)/bin/python -m tests.parity.make_goldens

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What installs the rest is pinned apart, in requirements/build.txt.
lock: $(READY)
	{ echo '# Core, data and test, for Python 3.11; written by `make lock`.'; \
	  $(BIN)/python -m pip freeze --exclude-editable \
	    $(shell sed -n 's/==.*/ /;t p;d;:p s/^/--exclude /p' \
	      $(EXTRAS:$(VENV)/%=requirements/%.txt) requirements/quality.txt); } \
	  > requirements/lock.txt.new
	mv requirements/lock.txt.new requirements/lock.txt

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find step_audio_jax data_pipelines tpu_launch tests benchmarks \
	  -name __pycache__ -type d -prune -exec rm -rf {} +
