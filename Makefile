# Shortcuts for people; .ci/run is what counts.
PYTHON ?= .venv-test/bin/python

.PHONY: check test docs format
check:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(dir $(PYTHON))lint-imports

test:
	$(PYTHON) -m pytest

docs:
	$(PYTHON) -m tests.write_cli_docs

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .
