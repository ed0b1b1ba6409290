# `make test` and `make demo` need Python 3.11 or newer, make and a C++ compiler; they set up the rest.
# Without the compiler they work as well: pooling then runs as plain PyTorch.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KERNELS := CMakeLists.txt $(wildcard src/pixelwise/ops/kernels/cpp/*)

# Code of another checkout must not be tested in place of this one.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help test demo sanitize format clean FORCE

help:
	@echo 'make test     lint, types and tests'
	@echo 'make demo     the whole job on the embedded dataset; OUT=FOLDER to choose where'
	@echo 'make sanitize the tests of the operators, kernels under AddressSanitizer and UBSan'
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
$(STAMP): pyproject.toml $(KERNELS)
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

# Files side by side; threads of OpenMP that wait must not keep the other file's from computing.
test: $(STAMP)
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

demo: $(STAMP)
	$(BIN)/pixelwise demo $(if $(OUT),-o '$(OUT)')

# The sanitizers' own libraries must be loaded before everything else. Python keeps memory to its
# end on purpose, so leaks are not looked for.
SANITIZERS = $(shell $(CXX) -print-file-name=libasan.so):$(shell $(CXX) -print-file-name=libubsan.so)
sanitize: $(STAMP)
	cmake -S . -B build/sanitize -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS=-O1 -DPIXELWISE_SANITIZE=ON
	cmake --build build/sanitize --parallel
	LD_PRELOAD='$(SANITIZERS)' ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		PIXELWISE_KERNELS='$(CURDIR)/build/sanitize/pixelwise_pooling.so' \
		$(BIN)/python -m pytest -q tests/ops/test_pooling.py tests/ops/kernels/test_cpu.py -k 'not plain'

format: $(STAMP)
	$(BIN)/python -m ruff format
	$(BIN)/python -m ruff check --fix

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
