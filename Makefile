# Everything a newcomer types. Nothing is assumed but git, make and Python 3.11 or later.
#
#   make demo    make videos, train a plain and a temporal network, show what each understood (minutes)
#   make test    the test suite
#   make check   format, lint, types, import contract, tests: what CI runs
#   make slow    the long tests: every backbone x module, real videos in full
#   make fidelity  docs/fidelity.md: every published count beside ours, counted anew
#   make support   docs/support.md: what every module can do, tried anew (half an hour)
#   make recipes the heads of recipes/: rows, commands, printed accuracies, hours (minutes)
#   make bench   what a temporal module costs in time, over the plain backbone; loader and training beside what they could reach

VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
SOURCES := src tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint check slow fidelity support recipes bench format clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(READY)

$(READY): pyproject.toml
	@python="$(PYTHON)"; \
	$${python:-false} -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "kinemix needs Python 3.11 or later, and none was found; name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }; \
	echo "== making the environment in $(VENV) with $$($$python --version 2>&1); PyTorch is large, a first time takes some minutes"; \
	test -x $(BIN)/python || $$python -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "this Python cannot make environments; on Debian and Ubuntu: apt install python3-venv"; exit 2; }
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	@$(BIN)/python -c 'import kinemix, torch, torchvision, av'
	@touch $(READY)
	@echo "== ready: $$($(BIN)/kinemix --version)"

demo: $(READY)
	@$(BIN)/kinemix demo

test: $(READY)
	@$(BIN)/python -m pytest

lint: $(READY)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint test

slow: $(READY)
	@$(BIN)/python -m pytest -m slow --timeout 3600

fidelity: $(READY)
	@$(BIN)/kinemix complexity --papers --markdown docs/fidelity.md

support: $(READY)
	@$(BIN)/kinemix list --support --markdown docs/support.md

recipes: $(READY)
	@$(BIN)/kinemix recipes headers

bench: $(READY)
	@$(BIN)/python benchmarks/temporal_overhead.py
	@$(BIN)/python benchmarks/loader.py
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/training.py

format: $(READY)
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache
