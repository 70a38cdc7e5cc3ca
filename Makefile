# The verbs of this project. `make` alone lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := .bench-venv
# Whole files side by side: a server that they share is started once for each process. In their order, so that those that
# wait the longest (acceptance) begin first, and none of them is left over at the end. Three on two cores: they wait a lot.
BESIDE := --numprocesses=3 --dist=loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-long lint format docs bench

help:  ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(READY)  ## a virtual environment with the exact versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[worker,standalone,dev]'
	@touch $(READY)

demo: setup  ## the whole way, on real data: upload, train, live loss, checked weights
	$(BIN)/python examples/demo.py

serve: setup  ## everything on this machine, at http://127.0.0.1:8000
	$(BIN)/backpropd serve

test: setup  ## every test, against real components (15 minutes at most)
	$(BIN)/python -m pytest -m "not long" $(BESIDE)

test-long: setup  ## the tests that need more time
	$(BIN)/python -m pytest -m long

lint: setup  ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup  ## the pages of docs/ that are written from the code
	$(BIN)/python -m docs.generate

$(PEERS)/.ready: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --requirement benchmarks/peers/requirements.txt
	@touch $@

bench: setup $(PEERS)/.ready  ## the tables that docs/ quotes, and the engine beside its peers (an hour)
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/burst.py
	$(BIN)/python benchmarks/footprint.py
	$(BIN)/python benchmarks/ending.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/intake.py
	$(BIN)/python benchmarks/plans.py
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/engine.py --write
