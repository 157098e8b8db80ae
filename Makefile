# make demo and make test do everything on a fresh machine with Python 3.11 or 3.12.
PYTHON := $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
INSTALL := pip install -q --disable-pip-version-check -c constraints.txt
WORKERS := 2

.PHONY: demo test clean

demo: .venv/installed
	$(BIN)/shapelex run sweeps/quick.yaml --workers $(WORKERS)
	$(BIN)/shapelex evaluate sweeps/quick.yaml --workers $(WORKERS)
	$(BIN)/shapelex report sweeps/quick.yaml
	@echo "Open the report in a browser. First, for the commands above: source .venv/bin/activate"

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "ShapeLex needs Python 3.11 or 3.12 on the PATH" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m $(INSTALL) -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m $(INSTALL) -e ".[dev]"
	touch $@

clean:
	rm -rf .venv
