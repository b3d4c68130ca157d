# Every target makes .venv when it is not there. PYTHON names the interpreter to make it with.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo setup test check bench lint types slow

demo: setup ## train LLLA on MQAR and print its table
	$(BIN)/python train.py arch=hybrid pattern=LLLA

setup: .venv/ready ## .venv from requirements.lock

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

test: setup ## the default suite
	$(BIN)/pytest

slow: setup ## everything, slow tests included
	$(BIN)/pytest -m ""

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/pyright

check: lint types test ## exactly what CI runs

bench: setup ## the benchmarks, a ratio each
	$(BIN)/python -m benchmarks
