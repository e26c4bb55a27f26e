# Everything runs in .venv, which the first target that needs it makes from requirements.lock.
PYTHON ?= python3
INSTALLER ?= uv
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.8

.DEFAULT_GOAL := help
.PHONY: help setup reproduce reproduce-all kick figures claims test test-all check format mlflow bench lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(READY) ## make .venv with the locked dependencies (INSTALLER=pip to use pip's own settings)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; run make PYTHON=python3.12 (or another)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
ifeq ($(INSTALLER),uv)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endif
	@touch $@

reproduce: $(READY) ## run every figure's four systems, compare with the stored rows, draw, check claims
	$(BIN)/aegaeon reproduce

reproduce-all: $(READY) ## the same with every variant and sensitivity experiment
	$(BIN)/aegaeon reproduce --all

kick: $(READY) ## kick the tires: one small sweep and its table, in seconds
	$(BIN)/aegaeon run -m experiment=kick
	$(BIN)/aegaeon figures
	$(BIN)/aegaeon claims

figures: $(READY) ## draw every figure from the stored results
	$(BIN)/aegaeon figures

claims: $(READY) ## the paper's claims against the stored results
	$(BIN)/aegaeon claims

test: check ## lint, types, import rules and the default tests
	$(BIN)/pytest -n 2

test-all: check ## the slow tests as well
	$(BIN)/pytest -n 2 -m 'not gpu'

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

mlflow: $(READY) ## open the MLflow UI; stored results are loaded first
	$(BIN)/aegaeon results import
	$(BIN)/aegaeon mlflow

bench: $(READY) ## time the simulator, per point and at market scale
	$(BIN)/aegaeon bench --large

lock: ## resolve the dependencies anew
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --group dev --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command 'make lock' pyproject.toml -o requirements.lock

clean: ## remove run directories, the MLflow database and caches; stored results stay
	rm -rf runs/mlflow.db* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find runs -mindepth 1 -maxdepth 1 -type d ! -name stored -exec rm -rf {} +
