# Every command to run in a fresh clone. Each target installs what it needs. `make` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
# Extra arguments for pytest: make test ARGS="-k laws -x"
ARGS ?=
# Half of the suite waits for Ray while the other half computes. Tests run in the order of files, because the few that start Ray take longest.
LANES ?= --numprocesses 2 --dist loadscope --no-loadscope-reorder

.PHONY: help install test slow audit check demo demo-stop clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

install: .venv/.installed ## Create .venv with the pinned packages and this project, editable.

# The stamp is written last, so an interrupted install is repeated.
# torch is installed first: otherwise another package would pull in the newest torch with gigabytes of CUDA libraries.
.venv/.installed: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make install needs Python 3.11 and did not find it as '$(PYTHON)'. Install it, or name another with 'make install PYTHON=/path/to/python3.11'." >&2; exit 1; }
	@echo "Installing the pinned packages into .venv (about two minutes the first time) ..."
	@rm -f $@
	@"$(PYTHON)" -m venv .venv
	@.venv/bin/python -m pip install -qq -c constraints.txt setuptools poetry-core torch
	@.venv/bin/python -m pip install -qq -c constraints.txt --no-build-isolation -e '.[service,workers,dev]'
	@touch $@

test: install ## Run the whole test suite; as root on Debian, first install Chromium and PostgreSQL for it.
	@scripts/system-packages
	@.venv/bin/python -m pytest $(LANES) $(ARGS)

slow: install ## Run the tests marked slow (the cluster tests need root), then the audit; not needed for every change.
	@scripts/system-packages
	@.venv/bin/python -m pytest $(LANES) -m "(slow or cluster) and not gpu" $(ARGS)
	@scripts/audit

audit: ## Check the pinned packages against PyPI's security advisories.
	@scripts/audit

check: install ## Check format, lint, types and imports between packages.
	@scripts/check

demo: install ## Start the service and a dispatcher on this machine and run a small study.
	@scripts/demo

demo-stop: ## Stop what `make demo` started.
	@[[ ! -x .venv/bin/python ]] || scripts/demo stop

clean: ## Remove .venv and all caches; keep the data of studies.
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	find adamp studies workers service tangent tests benchmarks examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +
