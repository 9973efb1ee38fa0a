# Two commands do everything on a fresh machine: `make maxcut` and `make test`.
# Variables may be set on the command line, as in `make setup PYTHON=python3.12`.

PYTHON ?= python3
VENV ?= .venv
GRAPH ?= tests/data/graphs/wordnet-cooc.txt.gz
TIME_LIMIT ?= 60
WORKERS ?= 2
ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup maxcut test check bench report gpu clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make a virtual environment, install everything into it, compile the kernels

# The doctor's tiny solves compile the CPU kernels, whose machine code is cached beside their sources.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/sdp doctor
	@touch $@

maxcut: $(STAMP) ## solve the bundled graph of 2.4 million edges; writes maxcut-wordnet.png and .txt
	$(BIN)/sdp maxcut $(GRAPH) --time-limit $(TIME_LIMIT) --plot maxcut-wordnet.png --out maxcut-wordnet.txt

test: $(STAMP) ## run the tests in two processes (WORKERS=n for more; ARGS='tests/cli -x' chooses)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: $(STAMP) ## lint, formatting, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/house/test_arrows.py

bench: $(STAMP) ## list the benchmarks; NAME=maxcut_cut_at_equal_time ARGS='--data DIR' runs one
ifdef NAME
	$(BIN)/python -m benchmarks.$(NAME) $(ARGS)
else
	@for file in benchmarks/[a-z]*.py; do \
	  printf '  %-32s %s\n' "$$(basename "$$file" .py)" "$$(sed -n '1s/^"""\([^"]*\).*/\1/p' "$$file")"; \
	done
endif

report: $(STAMP) ## compile every Triton kernel for four chips, count its machine code, predict its time; no GPU needed
	$(BIN)/python -m tools.kernel_report $(ARGS)

gpu: $(STAMP) ## on a GPU: test and time the kernels, set predictions against measurements, write benchmarks/results
	$(BIN)/python -m benchmarks.on_gpu $(ARGS)

clean: ## remove the virtual environment, caches and results of the targets above
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f maxcut-wordnet.png maxcut-wordnet.txt
	find sdp kernels tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
