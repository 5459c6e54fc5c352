# Everything a person runs here, from a fresh clone: each target brings what it needs. `make` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
# More for pytest: make test ARGS="-k laws -x"
ARGS ?=
# Half of the suite waits for Ray, and the other half computes meanwhile. In the order of files: those that start Ray are few and long.
LANES ?= --numprocesses 2 --dist loadscope --no-loadscope-reorder

.PHONY: help install test slow audit check demo demo-stop clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

install: .venv/.installed ## Create .venv with the pinned packages and this project, editable.

# The stamp comes last: an install that was cut short leaves none, and the next one goes on where it stopped.
# torch comes before the rest: a package that may choose its own torch takes the newest, with gigabytes of CUDA libraries.
.venv/.installed: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make install needs Python 3.11 and found none as '$(PYTHON)': install it, or name one with 'make install PYTHON=/path/to/python3.11'." >&2; exit 1; }
	@echo "Installing the pinned packages into .venv (about two minutes the first time) ..."
	@rm -f $@
	@"$(PYTHON)" -m venv .venv
	@.venv/bin/python -m pip install -qq -c constraints.txt setuptools poetry-core torch
	@.venv/bin/python -m pip install -qq -c constraints.txt --no-build-isolation -e '.[service,workers,dev]'
	@touch $@

test: install ## Run the whole test suite; as root on Debian, first install Chromium and PostgreSQL for it.
	@scripts/system-packages
	@.venv/bin/python -m pytest $(LANES) $(ARGS)

slow: install ## Run the tests that are marked slow, the cluster's as root, then the audit; now and then, not with every change.
	@scripts/system-packages
	@.venv/bin/python -m pytest $(LANES) -m "(slow or cluster) and not gpu" $(ARGS)
	@scripts/audit

audit: ## Hold the pinned packages against PyPI's advisories.
	@scripts/audit

check: install ## Check format, lint, types and the walls between packages.
	@scripts/check

demo: install ## Start the service and a dispatcher on this machine and run a small study.
	@scripts/demo

demo-stop: ## Stop what `make demo` started.
	@[[ ! -x .venv/bin/python ]] || scripts/demo stop

clean: ## Remove .venv and every cache; the data of studies stays.
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	find adamp studies workers service tests benchmarks examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +
