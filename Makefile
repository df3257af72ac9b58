# The two commands of the README are `make demo` and `make test`; both install into one .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# A file's tests share what is slow to make, so a file stays with one process.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

.PHONY: install demo test test-all test-shuffled lint format clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "armorm needs Python 3.11 or newer; got $$($(PYTHON) --version); set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv \
	  || { rm -rf .venv; echo "no virtual environment could be made; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/armorm demo demo

test: install
	$(PYTEST)

test-all: install
	$(BIN)/pytest -m "slow or not slow"

# In an order of its own each time, which is told, and with vectors as another processor would round them.
test-shuffled: install
	TEST_ROUNDING=1e-6 $(PYTEST) -p randomly

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
