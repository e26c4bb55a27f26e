# The first target that needs .venv makes it from requirements.lock. Commands that need vLLM run in
# .venv-live instead. `make test` and `make reproduce` have a live part, on platforms with vLLM
# wheels; the live part makes .venv-live. WITH_LIVE= leaves the live part out (docs/live.md).
PYTHON ?= python3
INSTALLER ?= uv
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.8

# cpu, or cuda on nodes with GPUs; cuda installs vLLM's CUDA build.
PLATFORM ?= cpu
LIVE := .venv-live
LIVE_BIN := $(LIVE)/bin
LIVE_READY := $(LIVE)/.ready-$(PLATFORM)
LIVE_LOCK := requirements-live$(if $(filter cuda,$(PLATFORM)),-cuda).lock
# live_fidelity tests the profile, so it runs first, soon after the profile: machine speed drifts.
LIVE_EXPERIMENTS := live_fidelity $(filter-out live_fidelity,\
  $(patsubst conf/experiment/%.yaml,%,$(sort $(wildcard conf/experiment/live_*.yaml))))
# Results that depend on the machine's profile; a new profile removes them.
PROFILED := runs/live_fidelity runs/live_compare_simulated
LIVE_FIGURES := fig07 fig14 fig15a fig15b fig16 live_compare fidelity
# The folder for this machine's live results, and copies of the stored simulated results.
LIVE_STORED ?= runs/here
LIVE_PLACE = $(if $(filter $(abspath runs/stored),$(abspath $(LIVE_STORED))),--reference,--stored $(LIVE_STORED))
LIVE_TESTS := tests/live tests/kernels
WITH_LIVE ?= $(filter Linux-x86_64-3.11,$(shell $(PYTHON) -c \
  'import platform as p; print(p.system(), p.machine(), p.python_version()[:4], sep="-")'))
# `make test` leaves out the tests that make many engines, break many Ray clusters, or start ranks.
# The controller's tests need no live package: they are in the first part.
SHORT_LIVE_TESTS := tests/kernels $(addprefix tests/live/,measure memory preflight) \
  tests/live/instance/test_work.py tests/live/instance/test_tracks.py \
  $(addprefix tests/live/ray/test_,live_run.py launcher.py checkpoints.py)
# PyTorch for CPUs is in no package index (docs/dependencies.md). It comes from the folders that pip's
# settings name, else from PyTorch's own index. TORCH_FROM= takes the CUDA build of the package index.
TORCH := torch==2.13.0
UV_FIND_LINKS ?= $(shell echo "$(PIP_FIND_LINKS)" | tr ' ' ',')
export UV_FIND_LINKS
TORCH_FROM ?= $(if $(UV_FIND_LINKS),,--torch-backend cpu)
# Spinning worker threads make tiny steps many times slower on a shared machine.
RUN_LIVE := OMP_NUM_THREADS=1 $(LIVE_BIN)/python -m
SOAK_S ?= 600

.DEFAULT_GOAL := help
.PHONY: help setup reproduce reproduce-all kick figures claims test test-live test-live-short test-all check format \
  mlflow doctor bench live live-kick live-setup bench-live bench-memory bench-kernels soak lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(READY) ## make .venv with the locked dependencies (INSTALLER=pip to use pip's own settings)

$(READY): requirements.lock pyproject.toml
	$(call check_python)
	$(PYTHON) -m venv $(VENV)
	$(call sync,$(BIN),requirements.lock)
	$(call install,$(BIN),--no-deps --no-build-isolation -e .)
	@touch $@

live-setup: $(LIVE_READY) ## make .venv-live: all of .venv, and vLLM, Ray, PyTorch (PLATFORM=cuda on GPU nodes)

$(LIVE_READY): $(LIVE_LOCK) pyproject.toml
	$(call check_python)
	$(PYTHON) -m venv --clear $(LIVE)
	$(call sync,$(LIVE_BIN),$(LIVE_LOCK))
ifneq ($(PLATFORM),cuda)
	$(call install,$(LIVE_BIN),$(if $(filter uv,$(INSTALLER)),$(TORCH_FROM)) $(TORCH))
endif
	$(call install,$(LIVE_BIN),--no-deps --no-build-isolation -e .)
	$(LIVE_BIN)/python -c "import torch, transformers, vllm, ray"
	@touch $@

# `sync` gives $(1)/python exactly the packages of the lock $(2); `install` adds packages to it.
ifeq ($(INSTALLER),uv)
define sync
	$(1)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(1)/uv pip sync --quiet --python $(1)/python $(2)
endef
install = $(1)/uv pip install --quiet --python $(1)/python $(2)
else
sync = $(1)/pip install --quiet --disable-pip-version-check --no-deps -r $(2)
install = $(1)/pip install --quiet --disable-pip-version-check $(2)
endif

define check_python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; run make PYTHON=python3.12 (or another)"; exit 2; }
endef

# $(1) is a target of the live part, $(2) a name for messages.
live_part = $(if $(WITH_LIVE),$(MAKE) --no-print-directory $(1),\
  @echo "$(2): left out; it needs Linux on x86-64, Python 3.11, and WITH_LIVE not to be empty (docs/live.md)")

reproduce: $(READY) ## run every figure's four systems, compare with the stored rows, draw, check claims
	$(BIN)/aegaeon reproduce
	$(call live_part,live-kick,live run)

reproduce-all: $(READY) ## the same with every variant and sensitivity experiment
	$(BIN)/aegaeon reproduce --all

live: $(LIVE_READY) ## install if need be, profile this machine, run the live experiments, draw to runs/here
	$(LIVE_BIN)/aegaeon profile measure experiment=live_fidelity
	rm -rf $(PROFILED)
	@set -e; for name in $(LIVE_EXPERIMENTS); do \
	  echo "aegaeon run experiment=$$name"; $(LIVE_BIN)/aegaeon run experiment=$$name; done
	mkdir -p $(LIVE_STORED)
	test runs/stored -ef $(LIVE_STORED) || cp -r runs/stored/. $(LIVE_STORED)
	$(LIVE_BIN)/aegaeon results export --replace $(LIVE_PLACE) $(LIVE_EXPERIMENTS)
	$(LIVE_BIN)/aegaeon figures --stored $(LIVE_STORED) --out $(LIVE_STORED)/figures $(LIVE_FIGURES)
	$(LIVE_BIN)/aegaeon claims --stored $(LIVE_STORED)

live-kick: $(LIVE_READY) ## kick the tires of the live backend: one run, a minute
	$(LIVE_BIN)/aegaeon run experiment=live_kick

kick: $(READY) ## kick the tires: one small sweep and its table, in seconds
	$(BIN)/aegaeon run experiment=kick
	$(BIN)/aegaeon figures
	$(BIN)/aegaeon claims

figures: $(READY) ## draw every figure from the stored results
	$(BIN)/aegaeon figures

claims: $(READY) ## the paper's claims against the stored results
	$(BIN)/aegaeon claims

test: check ## lint, types, import rules and the default tests, live ones included
	$(BIN)/pytest -n 2
	$(call live_part,test-live-short,live tests)

test-live-short: $(LIVE_READY)
	$(RUN_LIVE) pytest $(SHORT_LIVE_TESTS)

test-live: $(LIVE_READY) ## all tests of engine and kernels on real vLLM and Ray, the slow ones too (over 20 minutes)
	$(RUN_LIVE) pytest -m 'not gpu' $(LIVE_TESTS)

test-all: check ## the default and the slow tests, without live ones (test-live)
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

doctor: $(READY) ## check this machine and environment, with the results that each finding affects
	$(if $(wildcard $(LIVE_READY)),$(LIVE_BIN),$(BIN))/aegaeon doctor

bench: $(READY) ## time the simulator, per point and at market scale
	$(BIN)/aegaeon bench sim --large

bench-live: $(LIVE_READY) ## switches, restores and bookkeeping against memcpy and vLLM alone (STORE=1 keeps them)
	$(LIVE_BIN)/aegaeon bench live $(if $(STORE),--store)

bench-memory: $(LIVE_READY) ## weight switches against memcpy
	$(LIVE_BIN)/aegaeon bench memory

bench-kernels: $(LIVE_READY) ## gathering and scattering KV blocks against memcpy
	$(LIVE_BIN)/aegaeon bench kernels

soak: $(LIVE_READY) ## random schedules, every token checked, for SOAK_S seconds (600); then random kills
	AEGAEON_SOAK_S=$(SOAK_S) $(RUN_LIVE) pytest -s -m 'not gpu' -k 'soak or at_random' -o timeout=0 \
	  tests/live/instance tests/live/ray/test_faults.py

lock: $(READY) ## resolve the dependencies again, for all three environments
	$(COMPILE) --universal -o requirements.lock
	$(COMPILE) $(LINUX) --extra live $(addprefix --no-emit-package ,$(NOT_ON_CPU)) -o requirements-live.lock
	UV_FIND_LINKS= $(COMPILE) $(LINUX) --extra live-cuda -o requirements-live-cuda.lock

COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --group dev --generate-hashes \
  --no-emit-index-url --no-annotate --custom-compile-command 'make lock' pyproject.toml
# Not universal: the requirements of some wheels differ by platform, and uv reads one wheel only.
LINUX := --python-platform x86_64-manylinux_2_28
# Wheels of the first three need CUDA and break transformers on a CPU; torch is installed separately.
NOT_ON_CPU := torchvision torchaudio torchcodec torch

clean: ## remove run directories, the MLflow database and caches; stored results stay
	rm -rf runs/mlflow* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find runs -mindepth 1 -maxdepth 1 -type d ! -name stored -exec rm -rf {} +
