# Every target makes .venv when it is not there. PYTHON names the interpreter to make it with.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo setup test check bench lint types slow

demo: setup ## train LLLA on MQAR and print its table
	$(BIN)/python train.py arch=hybrid pattern=LLLA

setup: .venv/ready ## .venv from requirements.lock

# mamba-ssm is a source package that builds without isolation; its Python part needs neither CUDA nor a compiler.
.venv/ready: requirements.lock requirements-oracles.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements.lock
	MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE $(PIP) --no-deps --no-build-isolation -r requirements-oracles.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

test: setup ## the default suite
	$(BIN)/pytest -n auto --maxprocesses=4

slow: setup ## everything, slow tests included
	$(BIN)/pytest -n auto --maxprocesses=4 -m ""

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/pyright

check: lint types test ## exactly what CI runs

bench: setup ## the benchmarks, a ratio each
	$(BIN)/python -m benchmarks
