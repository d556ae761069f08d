# What a newcomer types: `make demo` and `make test`; `make check` before each commit. All of them build .venv first.
PYTHON ?= python3.11
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: .venv demo test check docs clean

.venv: .venv/installed

# A stamp and not the folder itself: an installation that broke off is not taken for a finished one.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv
	$(BIN)/python -m jobs.demo

# Most of the time is Ray's processes starting one after the other: the second process tests everything else meanwhile.
test: .venv
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

# Format, lint and types (tests/house/test_style.py), and every test that needs neither Ray nor a browser, but those of
# modules that take more than about three seconds. Three minutes in all.
check: .venv
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup -m "not ray and not browser and not slow"

# The site, into site/: open site/index.html. The build needs no network and neither do the pages.
docs: .venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "documentation: site/index.html"

clean:
	rm -rf .venv
