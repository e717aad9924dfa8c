# Every task of the project. `make` alone lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
.DEFAULT_GOAL := help

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(VENV)/.runtime ## start everything and tell the story of a request
	$(BIN)/rankgate demo

up: $(VENV)/.runtime ## guard your own reranker: make up ARGS="--upstream URL --issuer URL --audience A"
	$(BIN)/rankgate up $(ARGS)

test: $(VENV)/.dev ## run every test this machine can run, and name those it cannot
	PYTHON=$(BIN)/python tests/run.sh

lint: $(VENV)/.dev ## ruff and mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

proto: $(VENV)/.dev ## generate rankgate/pb from proto/
	$(BIN)/python hatch_build.py

lock: $(VENV)/.dev ## resolve the two requirement locks again
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile $(LOCK) --extra embedded --extra build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile $(LOCK) --extra embedded --extra dev pyproject.toml -o requirements-dev.lock
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header

clean: ## remove the environment and everything generated
	rm -rf $(VENV) .cache build dist rankgate/pb .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The locks pin every distribution by hash; the project itself is built with the pinned build tools.
$(VENV)/.runtime: requirements.lock pyproject.toml hatch_build.py $(wildcard proto/*.proto)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

.PHONY: help demo up test lint proto lock clean
