# make demo       grow a small network on the embedded digits, under 3 minutes on 2 cores
# make test       all tests
# make faults     kills, full disks, broken files and long runs, in full numbers: about an hour
# make lint       style, types, import contracts
# make bench      how fast it is, in minutes on 2 quiet cores: tables in runs/bench
# make bench-gpu  the same on a CUDA device, at sizes that fill one: tables in runs/bench-gpu
#
# Each makes .venv if it is missing. PYTHON=python3.12 chooses another interpreter (3.11 or newer), PIP_FLAGS adds
# options to pip (such as --extra-index-url for a CPU build of torch), RUN=... another folder for the demo, BENCH=... for
# the tables. CIFAR10=... names the folder of CIFAR-10, where it is at hand: a growth on it is measured too.

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
RUN ?= runs/digits
BENCH ?= runs/bench
CIFAR10 ?=
ROOT = $(if $(CIFAR10),--root $(CIFAR10))
RECIPE := recipes/digits.toml
BIN := $(VENV)/bin
PYTEST_FLAGS ?= -n 2 --dist worksteal

.PHONY: demo test faults lint setup clean-demo bench bench-gpu

demo: $(VENV)/.installed
	@if [ -e $(RUN)/report.md ]; then \
	  echo "$(RUN) holds a finished run: 'make clean-demo' removes it, then 'make demo' grows again."; \
	elif [ -e $(RUN)/recipe.json ]; then \
	  echo "$(RUN) holds an unfinished run: going on."; \
	  $(BIN)/energysplit grow $(RECIPE) --run $(RUN) --resume; \
	else \
	  $(BIN)/energysplit grow $(RECIPE) --run $(RUN); \
	fi
	@echo "report: $(RUN)/report.html (the same as text: $(RUN)/report.md)"

clean-demo:
	rm -rf $(RUN)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

faults: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/faults --faults $(PYTEST_FLAGS) --durations 20 --timeout 7200

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed
	mkdir -p $(BENCH)
	$(BIN)/python benchmarks/index_sweep.py --out $(BENCH)
	$(BIN)/python benchmarks/published_operator.py --out $(BENCH)
	$(BIN)/python benchmarks/scaling.py --out $(BENCH)
	$(BIN)/python benchmarks/start_up.py --out $(BENCH)
	$(BIN)/python benchmarks/grown_step.py --out $(BENCH)
	$(BIN)/python benchmarks/growth_overhead.py --out $(BENCH) $(ROOT)
	$(BIN)/python benchmarks/allocation.py --out $(BENCH) --groups 200 --seeds 1

# Start-up and allocation use no GPU.
bench-gpu: $(VENV)/.installed
	mkdir -p $(BENCH)-gpu
	$(BIN)/python benchmarks/index_sweep.py --out $(BENCH)-gpu --device cuda --batch 128 --size 224 --repeats 30 --channels-last
	$(BIN)/python benchmarks/index_sweep.py --out $(BENCH)-gpu --device cuda --batch 128 --size 224 --repeats 30 --channels-last --precision bf16
	$(BIN)/python benchmarks/published_operator.py --out $(BENCH)-gpu --device cuda --batch 128 --repeats 30
	$(BIN)/python benchmarks/scaling.py --out $(BENCH)-gpu --device cuda --width 64 --depth 8 --size 64 --batch 128 --repeats 30
	$(BIN)/python benchmarks/grown_step.py --out $(BENCH)-gpu --device cuda --batch 256 --repeats 50
	$(BIN)/python benchmarks/growth_overhead.py --out $(BENCH)-gpu --device cuda --batches 175 $(ROOT) --images 45000

setup: $(VENV)/.installed-dev

# Editable, so that only a change of pyproject.toml asks for another install.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[test,dev]'
	@touch $(VENV)/.installed $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "energysplit needs Python 3.11 or newer; '$(PYTHON)' is not (or is not there)." >&2; \
	  echo "Choose another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
