# make demo   grow a small network on the embedded digits, under 3 minutes on 2 cores
# make test   all tests
# make lint   style, types, import contracts
#
# Each makes .venv if it is missing. PYTHON=python3.12 chooses another interpreter (3.11 or newer), PIP_FLAGS adds
# options to pip (such as --extra-index-url for a CPU build of torch), RUN=... another folder for the demo.

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
RUN ?= runs/digits
RECIPE := recipes/digits.toml
BIN := $(VENV)/bin
PYTEST_FLAGS ?= -n 2 --dist worksteal

.PHONY: demo test lint setup clean-demo

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

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

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
