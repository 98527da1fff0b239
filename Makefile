# Every target sets up what it needs on a fresh Debian or Ubuntu with Python 3.11 or newer.
PYTHON := .venv/bin/python

.PHONY: help setup demo bench test lint format locks

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 18

setup: ## Make .venv from the lock files, install the database servers
	@.ci/setup

demo: setup ## Rotate for real on this machine, with a client that logs in all the while
	@$(PYTHON) -m sandbox.demo

bench: setup ## Measure a rotation: seconds, calls per step, calls across the clouds, cold starts
	@$(PYTHON) -m sandbox.bench

test: setup ## Run the tests
	$(PYTHON) -m pytest

lint: setup ## Check style, types and the lock files
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

format: setup ## Format the code
	$(PYTHON) -m ruff format
	$(PYTHON) -m ruff check --fix

locks: setup ## Resolve the dependencies again
	.venv/bin/uv pip compile pyproject.toml --all-extras --group sandbox --group infrastructure --group dev \
	  --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate --quiet -o locks/dev.txt
	echo 'uv' | .venv/bin/uv pip compile - --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o locks/bootstrap.txt
