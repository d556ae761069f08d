# The two commands a newcomer types: `make demo` and `make test`. Both build .venv first.
PYTHON ?= python3.11
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: .venv demo test lint docs clean

.venv: .venv/installed

# A stamp and not the folder itself: an installation that broke off is not taken for a finished one.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv
	$(BIN)/python -m jobs.demo

# Half of the time is Ray's processes starting one after the other: the second process tests everything else meanwhile.
test: .venv
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

lint: .venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# The site, into site/: open site/index.html. The build needs no network and neither do the pages.
docs: .venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "documentation: site/index.html"

clean:
	rm -rf .venv
