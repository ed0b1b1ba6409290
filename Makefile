# `make test` and `make demo` need Python 3.11 or newer, make and a C++ compiler; they set up the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Code of another checkout must not be tested in place of this one.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help test demo format clean FORCE

help:
	@echo 'make test     lint, types and tests'
	@echo 'make demo     the whole job on the embedded data set; OUT=FOLDER to choose where'
	@echo 'make format   format the code and mend what ruff can mend'
	@echo 'make clean    remove .venv, caches and build products; runs/ stays'
	@echo 'Each sets up .venv when needed, with PYTHON=$(PYTHON).'

# The stamp holds the folder it was made in: a moved or copied checkout would import the old sources.
VENV_READY := $(shell $(BIN)/python -c 'import pip' 2>/dev/null \
	&& test "$$(cat $(STAMP) 2>/dev/null)" = '$(CURDIR)' && echo yes)
ifneq ($(VENV_READY),yes)
$(STAMP): FORCE
endif

# The stamp goes first and comes back last, so a failed install is tried again.
$(STAMP): pyproject.toml
	@rm -f $@
	@$(BIN)/python -c 'import pip' 2>/dev/null || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
			echo 'Pixelwise needs Python 3.11 or newer. Name one: make PYTHON=python3.12' >&2; \
			exit 1; }; \
		echo 'Making $(VENV) with $(PYTHON).'; \
		$(PYTHON) -m venv --clear $(VENV); }
	@echo 'Installing into $(VENV). The first time takes minutes: PyTorch is large.'
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@printf '%s\n' '$(CURDIR)' > $@

test: $(STAMP)
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q

demo: $(STAMP)
	$(BIN)/pixelwise demo $(if $(OUT),-o '$(OUT)')

format: $(STAMP)
	$(BIN)/python -m ruff format
	$(BIN)/python -m ruff check --fix

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
