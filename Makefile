# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STORE ?= .ablator
# Processes that run the fast tests; the slow ones use every core by themselves.
JOBS ?= 2

.PHONY: demo install check test test-slow docs format schema clean

demo: install
	$(BIN)/ablator run experiments/moto_n.yaml --profile laptop --store $(STORE)

install: $(STAMP)

# Versions are pinned in constraints.txt; an environment that is there already is brought up to them.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ablator needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,docs,weights]"
	touch $(STAMP)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pip --disable-pip-version-check check

test: install
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile --durations=15

test-slow: install
	$(BIN)/python -m pytest -m slow --durations=10

# The documentation as a site, in site/index.html; neither building nor reading it needs a network.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The schemas that editors complete study files from; a test says when they are out of date.
schema: install
	$(BIN)/ablator schema --output docs/schema/study.json
	$(BIN)/ablator schema --recipe --output docs/schema/recipe.json
	$(BIN)/ablator schema --profile --output docs/schema/profile.json
	$(BIN)/ablator schema --space --output docs/schema/space.json

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
