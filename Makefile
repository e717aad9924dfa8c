# Every task of the project. `make` alone lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
LOCK   := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header
.DEFAULT_GOAL := help

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(VENV)/.runtime ## start everything and tell the story of a request: make demo ARGS=--keep
	@$(BIN)/rankgate demo $(ARGS)

up: $(VENV)/.runtime ## guard your own reranker: make up ARGS="--upstream URL --issuer URL --audience A"
	@$(BIN)/rankgate up $(ARGS)

test: $(VENV)/.dev ## run every test this machine can run, and name those it cannot
	@PYTHON=$(BIN)/python tests/run.sh

test-clients: $(VENV)/.dev ## send the large clients through a gate: litellm, langchain, llama-index
	@PYTHON=$(BIN)/python tests/run.sh litellm langchain-cohere langchain-nvidia llama-index-cohere llama-index-tei

test-tamper: $(VENV)/.dev ## change copies of logs in 100,000 ways, each must be found, about six minutes
	@MANIPULATIONS=$(or $(COUNT),100000) $(BIN)/python -m pytest -q tests/rankgate/audit/test_proving.py

pictures: $(VENV)/.dev ## write docs/img/console: the console in Chromium, with people and requests that are made up
	@$(BIN)/python tests/browser/pictures.py

bench: $(VENV)/.dev ## measure the gate beside what it is compared with, about a quarter of an hour: make bench ARGS=--quick
	@PYTHON=$(BIN)/python bench/tools.sh
	@$(BIN)/python -m bench $(ARGS)

bench-waiting: $(VENV)/.dev ## hold 256 callers for a person and measure the others, about four minutes
	@$(BIN)/python -m bench.waiting $(ARGS)

bench-restart: $(VENV)/.dev ## restart each part under load and count what went wrong, about a minute
	@PYTHON=$(BIN)/python bench/tools.sh
	@$(BIN)/python -m bench.restart $(ARGS)

profile: $(VENV)/.dev ## show where the filters' own time goes
	@$(BIN)/python -m bench.stages $(ARGS)

lint: $(VENV)/.dev ## ruff and mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ci: ## everything a change must pass, from a clean clone
	bash .ci/run

docs: $(VENV)/.runtime ## write docs/settings.md and docs/console-settings.md from the schemas
	$(BIN)/rankgate config docs > docs/settings.md
	$(BIN)/rankgate config docs --console > docs/console-settings.md

proto: $(VENV)/.dev ## generate rankgate/pb from proto/
	$(BIN)/python hatch_build.py

lock: $(VENV)/.dev ## resolve the requirement locks again
	$(PIP) install uv
	$(BIN)/uv pip compile $(LOCK) --extra embedded --extra console --extra build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile $(LOCK) --extra embedded --extra console --extra otel --extra dev pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile $(LOCK) deploy/build.in -o deploy/build.lock
	$(BIN)/uv pip compile $(LOCK) --extra otel --extra console pyproject.toml deploy/image.in -o deploy/image.lock

clean: ## remove the environment and everything generated
	rm -rf $(VENV) .cache build dist rankgate/pb .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The locks pin every distribution by hash; the project itself is built with the pinned build tools.
$(VENV)/.runtime: requirements.lock pyproject.toml hatch_build.py $(wildcard proto/*.proto)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rankgate needs Python 3.11 or later: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Creating the environment in $(VENV), once ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

.PHONY: help demo up test test-clients test-tamper pictures bench bench-waiting bench-restart profile lint ci docs proto lock clean
