# `make test` and `make demo` need Python 3.11 or newer, make and a C++ compiler; they set up the rest.
# Without the compiler they work as well: pooling then runs in plain PyTorch.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KERNELS := CMakeLists.txt $(wildcard src/pixelwise/ops/kernels/cpp/*)

# Never test the code of another checkout.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help test types tests test-fast demo sanitize format clean FORCE

help:
	@echo 'make test      lint, types and tests'
	@echo 'make test-fast lint and the tests that need no training, in under 90 seconds'
	@echo 'make demo      train and evaluate on a generated dataset; OUT=FOLDER sets the output'
	@echo 'make sanitize  test the compiled kernels under AddressSanitizer and UBSan'
	@echo 'make format    format the code and fix what ruff can fix'
	@echo 'make clean     remove .venv, caches and build products; keeps runs/'
	@echo 'Each target sets up .venv if needed, with PYTHON=$(PYTHON).'

# The stamp stores the folder of the checkout: a moved or copied one would import the old sources.
VENV_READY := $(shell $(BIN)/python -c 'import pip' 2>/dev/null \
	&& test "$$(cat $(STAMP) 2>/dev/null)" = '$(CURDIR)' && echo yes)
ifneq ($(VENV_READY),yes)
$(STAMP): FORCE
endif

# The stamp is removed first and written last, so that a failed install is repeated.
$(STAMP): pyproject.toml $(KERNELS)
	@rm -f $@
	@$(BIN)/python -c 'import pip' 2>/dev/null || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
			echo 'Pixelwise needs Python 3.11 or newer. Select one: make PYTHON=python3.12' >&2; \
			exit 1; }; \
		echo 'Creating $(VENV) with $(PYTHON).'; \
		$(PYTHON) -m venv --clear $(VENV); }
	@echo 'Installing into $(VENV). The first time takes minutes, because PyTorch is large.'
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@printf '%s\n' '$(CURDIR)' > $@

test: $(STAMP)
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	@$(MAKE) --no-print-directory -j2 types tests

# Types are checked while the tests run, because mypy uses one core.
types: $(STAMP)
	$(BIN)/python -m mypy

# Test files run in parallel; waiting OpenMP threads must not block those of other files.
tests: $(STAMP)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

# Without the tests that train, start processes, export or compile; tests/conftest.py lists them.
test-fast: $(STAMP)
	$(BIN)/python -m ruff check
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q --fast -n auto --maxprocesses 4 --dist loadfile

demo: $(STAMP)
	$(BIN)/pixelwise demo $(if $(OUT),-o '$(OUT)')

# The libraries of the sanitizers must be loaded first. Python keeps memory until it exits on purpose, so leak
# detection is off.
SANITIZERS = $(shell $(CXX) -print-file-name=libasan.so):$(shell $(CXX) -print-file-name=libubsan.so)
sanitize: $(STAMP)
	cmake -S . -B build/sanitize -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS=-O1 -DPIXELWISE_SANITIZE=ON
	cmake --build build/sanitize --parallel
	LD_PRELOAD='$(SANITIZERS)' ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		PIXELWISE_KERNELS='$(CURDIR)/build/sanitize/pixelwise_pooling.so' \
		$(BIN)/python -m pytest -q tests/ops/test_pooling.py tests/ops/kernels/test_cpu.py tests/losses/test_soft_confusion.py \
			-k 'not plain'

format: $(STAMP)
	$(BIN)/python -m ruff format
	$(BIN)/python -m ruff check --fix

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
