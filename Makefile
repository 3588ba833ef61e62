# Everything a person or CI runs. Each target makes $(VENV) and installs what it needs by itself;
# a stamp per extra makes repeats fast, and a changed pyproject.toml installs again.
#
#   make demo      the three jobs on real input          make test         the tests
#   make check     all that CI checks on one interpreter make test-system  what needs more than Python
#   make bench     the benchmarks                        make third-party  programs of others on millpond
#   make stress    2,700 deaths, one at each point       make stress-short some of them, and all faults once
#   make soak      an hour of kills under load           make faults       the fault table of docs/reliability.md
#   make simulate  a million simulated deaths (DEATHS=..., or SEED=... to replay one history that failed)
#   make fuzz      bytes that nobody vouches for, guided by coverage (SECONDS for each of three targets)
#
# PYTHON=...  the interpreter (3.11 or newer)            VENV=...   where it is installed
# BENCH=...   options of the benchmark: make bench BENCH=--quick
# SECONDS=... of `make fuzz` on each target (default: 60)
# MINUTES=... of `make soak` on each of three start methods (default: 20)
# TESTS=...   what `make test` runs, with pytest's options too: make test TESTS="tests/core -x"

PYTHON ?= python3
VENV ?= .venv
TESTS ?=
BENCH ?=
MINUTES ?= 20
SECONDS ?= 60
DEATHS ?= 1000000
FIRST ?= 0
SEED ?=

BIN := $(VENV)/bin
RUN := $(BIN)/python
CODE := $(wildcard src tests examples benchmarks)
SYSTEM_PROGRAMS := tmux strace

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-system system-programs lint format format-check types imports sizes bench bench-peers growth third-party \
	simulate stress stress-short soak faults fuzz check install clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.has-demo
	$(RUN) examples/demo.py

test: $(VENV)/.has-test
	$(RUN) -m pytest $(TESTS)

third-party: $(VENV)/.has-test
	$(RUN) -m tests.compat.third_party.run

test-system: $(VENV)/.has-test system-programs
	$(RUN) -m pytest -m system $(or $(TESTS),tests/system)

lint: $(VENV)/.has-lint
	$(RUN) -m ruff check .

format: $(VENV)/.has-lint
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

format-check: $(VENV)/.has-lint
	$(RUN) -m ruff format --check .

types: $(VENV)/.has-lint
	$(RUN) -m mypy $(CODE)
	$(RUN) -m pyright --pythonpath $(RUN)

imports: $(VENV)/.has-test
	$(BIN)/lint-imports

sizes: $(VENV)/.has-test
	$(RUN) -m pytest -q tests/architecture/test_sizes.py tests/architecture/test_words.py

# Faults placed in whole pools, and judged from outside: docs/reliability.md.
stress: $(VENV)/.has-test
	$(RUN) -m tests.stress sweep --form long
	$(RUN) -m tests.stress latency

stress-short: $(VENV)/.has-test
	$(RUN) -m tests.stress sweep --form short
	$(RUN) -m tests.stress table --methods default

soak: $(VENV)/.has-test
	$(RUN) -m tests.stress soak --minutes $(MINUTES)

faults: $(VENV)/.has-test
	$(RUN) -m tests.stress table --into docs/reliability.md

# A finding is written to .fuzz/, and `python -m tests.fuzz TARGET --replay FILE` runs it again.
fuzz: $(VENV)/.has-fuzz
	$(RUN) -m tests.fuzz --seconds $(SECONDS)

# The scheduler, the backend and the workers' loop in a world without processes. A seed that fails is printed.
simulate: $(VENV)/.has-test
	$(RUN) -m tests.simulate $(if $(SEED),--seed $(SEED),--deaths $(DEATHS) --first $(FIRST))

# Beside whatever is installed of the peers; `make bench-peers` installs them all.
bench: $(VENV)/.has-bench
	$(RUN) -m benchmarks --write docs/benchmarks $(BENCH)

bench-peers: $(VENV)/.has-peers

# What a task costs the caller, counted: fails where it grew by more than 15 % over benchmarks/growth.json.
growth: $(VENV)/.has-test system-programs
	$(RUN) -m benchmarks.growth

check: lint format-check types imports sizes test test-system

# A development installation with everything, and the hooks in git.
install: $(VENV)/.has-dev
	$(BIN)/pre-commit install

clean:
	rm -rf $(VENV) .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment -----------------------------------------------------------------------------

$(VENV)/.has-%: pyproject.toml | $(RUN)
	$(RUN) -m pip install --quiet --editable '.[$*]'
	@touch $@

# What PYTHON names is taken if it is new enough; only if it was not named are others looked for.
ifeq ($(origin PYTHON),file)
CANDIDATES := $(PYTHON) python3.13 python3.12 python3.11 python
else
CANDIDATES := $(PYTHON)
endif

$(RUN):
	@for python in $(CANDIDATES); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "making $(VENV) with $$("$$python" --version) ($$python)"; \
			"$$python" -m venv $(VENV) && exit 0; \
			rm -rf $(VENV); \
			echo "$$python cannot make a virtual environment (on Debian: apt-get install python3-venv)"; \
			exit 1; \
		fi; \
	done; \
	echo "millpond needs Python 3.11 or newer, and found none as: $(CANDIDATES)."; \
	echo "Name one that you have: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; \
	exit 1

# Installed where we may; where not, it is said what is missing.
system-programs:
	@missing=; for program in $(SYSTEM_PROGRAMS); do \
		command -v $$program >/dev/null || missing="$$missing $$program"; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing:$$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $$missing && exit 0; \
	fi; \
	echo "make test-system needs these programs, and may not or cannot install them:$$missing"; \
	exit 1
