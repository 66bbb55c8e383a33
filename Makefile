# Thin: each target makes what it needs and is quick when repeated. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
NODE := tests/e2e/node
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
PROTOS := $(wildcard proto/tollbridge/v1/*.proto)

.PHONY: help fetched node-clients demo test unit e2e lint format bench proto lock clean engines

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# One virtual environment from locked, hashed versions; made anew only when the lock changes.
$(STAMP): requirements/dev.txt pyproject.toml
	@deploy/setup/venv.sh $(PYTHON) $(VENV) requirements/dev.txt
	touch $(STAMP)

engines: ## the database engines and build tools the sandbox starts (apt, when root on Debian)
	@deploy/setup/engines.sh

demo: $(STAMP) engines ## clients in one account reach databases in another; ONCE=1 exits after, PRODUCTS=postgres,mysql,redis,redshift,rdsproxy,dsql,dynamodb,opensearch,keyspaces,docdb chooses
	@$(BIN)/python -m deploy.demo $(if $(ONCE),--once) $(if $(PRODUCTS),--products $(PRODUCTS))

$(NODE)/node_modules/.package-lock.json: $(NODE)/package-lock.json
	@NODE=1 deploy/setup/engines.sh
	@if command -v npm >/dev/null; then cd $(NODE) && npm ci --silent; else echo "npm is missing: its clients' tests will skip"; fi

node-clients: $(NODE)/node_modules/.package-lock.json ## npm's clients for the end-to-end tests

# Here, and not in the first test that needs them, which has five minutes for everything.
fetched: $(STAMP) engines
	@$(BIN)/python -m deploy.sandbox fetch --engines valkey,opensearch,cassandra,mongodb || test "$${TOLLBRIDGE_REQUIRE_ENGINES:-}" != 1

test: $(STAMP) engines fetched node-clients ## every test; TOLLBRIDGE_REQUIRE_ENGINES=1 makes a missing engine a failure
	@$(BIN)/python -m pytest $(or $(ARGS),-n $(WORKERS) --dist loadfile)

unit: $(STAMP) ## the tests that need no engine
	@$(BIN)/python -m pytest tests/unit tests/property tests/completeness tests/contract tests/architecture $(ARGS)

lint: $(STAMP) ## format, lint, types, import rules, contract
	@$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint

format: $(STAMP) ## rewrite the sources in the house format
	@$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) engines ## direct, the strongest peers and tollbridge in one run: tables and bench-results/*.json; ARGS=mysql for one
	@BENCH=1 deploy/setup/engines.sh
	$(BIN)/python -m tests.bench $(ARGS)

proto: $(STAMP) ## generate the stubs beside the .proto files
	@cd proto && ../$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS:proto/%=%)

lock: ## write requirements/*.txt anew (needs uv on the PATH)
	@deploy/setup/lock.sh

clean: ## remove what the targets above made
	@rm -rf $(VENV) .cache .sandbox .pytest_cache .mypy_cache .ruff_cache .import_linter_cache bench-results
