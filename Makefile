# `make` alone explains itself. Every target sets up what it needs.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ragworks-setup
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR):$(CURDIR)/plugins

.PHONY: help setup demo up down test lint bench snapshot

help: ## Say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with everything pinned, and the command `ragworks` in it

# torch goes first: with none present another package may pull a CUDA build of several GB.
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] < (3, 13); sys.exit(None if ok else "Python 3.11 or 3.12 is needed, this is " + sys.version.split()[0] + ": set PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (a few minutes the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check "$$(grep -oE '^torch==[0-9.]+' requirements.txt)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@$(BIN)/python -m pip check
	@touch $@

demo: $(STAMP) ## Index the documentation through Airflow and ask it a question
	@$(BIN)/python -m include demo

up: $(STAMP) ## Start Postgres and Airflow with its UI on this machine
	@$(BIN)/python -m include up

down: $(STAMP) ## Stop them
	@$(BIN)/python -m include down

test: $(STAMP) ## Run the tests, on a real Postgres with the real small model (MORE=--thorough: at more points)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=25 $(MORE)

lint: $(STAMP) ## Check style, imports and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(STAMP) ## Say which benchmarks there are (each is run by hand)
	@for f in $$(grep -l '^if __name__' bench/*.py bench/*/__main__.py); do \
		m=$${f%.py}; echo "python -m $$(echo "$${m%/__main__}" | tr / .)   $$(sed -n '1s/^"""//p' $$f)"; done

snapshot: $(STAMP) ## Rewrite the reviewed snapshot of all DAGs' shapes
	@$(BIN)/python -m tests.dags.snapshot
