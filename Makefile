# One command each: `make demo`, `make test`, `make lint`, `make bench`, `make clean`.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# A folder of photos, taken as it was typed and handed on by the environment: neither make nor the
# shell reads anything into it. `~` is expanded by the program, since sh leaves it.
override IMAGES := $(value IMAGES)
export IMAGES
FROM_IMAGES := $(if $(IMAGES),--images "$$IMAGES")

.DELETE_ON_ERROR:
.PHONY: demo test test-long lint format bench clean

# Where ensurepip is missing, `python -m venv` leaves half an environment behind: away with it.
$(VENV)/.made:
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(MAKE) --no-print-directory new-venv
	@touch $@

.PHONY: new-venv
new-venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=/path/to/python")'
	@rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "make: on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# Each stamp says that one set of extras is installed; it is made again when pyproject.toml changes.
$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	$(PIP) --editable '.[demo,dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: pyproject.toml | $(VENV)/.made
	$(PIP) --editable '.[demo,dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/vfs demo --track $(FROM_IMAGES)

# Two halves side by side, each on a processor: what researchers and teams use, and the operations.
USES := tests/catalog tests/flows tests/notebooks tests/vfs_ops/widgets
.PHONY: test-uses test-operations

test: $(VENV)/.dev
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-uses test-operations

test-uses: $(VENV)/.dev
	$(BIN)/python -m pytest $(USES)

test-operations: $(VENV)/.dev
	$(BIN)/python -m pytest $(USES:%=--ignore=%)

test-long: $(VENV)/.dev
	$(BIN)/python -m pytest -m long
	$(BIN)/python -m pytest -m 'hypothesis and not long' --hypothesis-profile=seek

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(FROM_IMAGES)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
