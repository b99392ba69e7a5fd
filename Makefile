# The verbs of this repository. Everything lands in .venv and runs/, nothing outside.
#   make install     the locked environment, for Python 3.10 to 3.13; another Python: make clean install PYTHON=python3.12
#   make demo        a real corpus, a training, translations and BLEU; arguments: make demo ARGS="--target-lang fr"
#   make test        the tests            make test-slow   the long ones      make test-short  some of each kind
#   make docs        the site of docs/, into build/site
#   make bench       time and memory beside fairseq's transformer; arguments: make bench ARGS="grow depth --shapes iwslt"
#   make lint        ruff's and mypy's checks    make format      ruff's formatting
#   make package     wheel and source release, in dist/      make lock        renew the locks (needs uv)
#   make gpu-bundle  the wheels that examples/gpu/run.sh installs on a host without a network, in build/gpu-bundle
# torch is the build for CPUs where there is no NVIDIA driver. To choose: make install TORCH_INDEX= takes PyPI's, with
# CUDA; TORCH_INDEX=https://download.pytorch.org/whl/cpu the one for CPUs.

VERSIONS := 3.10 3.11 3.12 3.13
# python3 if it is one of these, else the first that is; if there is none python3, which is then refused in one line
PYTHON ?= $(shell for each in python3 $(VERSIONS:%=python%); do \
  $$each -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$each && exit; \
  done; echo python3)
VENV ?= .venv
MACHINE = $(PYTHON) requirements/machine.py
TORCH_INDEX ?= $(shell $(MACHINE) torch-index 2>/dev/null)
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: install demo test test-slow test-short docs bench lint format package lock gpu-bundle clean
.DELETE_ON_ERROR:

install: $(VENV)/installed

# the file is made last, and --clear removes it: what was interrupted starts over
$(VENV)/installed: $(wildcard requirements/*.*) setup.py
	@command -v $(PYTHON) >/dev/null || { \
	  echo 'make: there is no "$(PYTHON)": install Python 3.10 to 3.13 (Debian: apt-get install python3-venv)' >&2; exit 1; }
	@$(MACHINE) check
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --require-hashes -r $$($(MACHINE) lock)
	$(PIP) install --no-deps $(TORCH_INDEX:%=--extra-index-url %) -r requirements/torch.txt
	$(PIP) install -r requirements/torch.txt # what this build needs beside the lock: CUDA's libraries, or nothing
	$(PIP) install --no-deps --no-build-isolation --require-hashes -r $$($(MACHINE) fairseq)
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	$(BIN)/python -m examples.demo $(ARGS)

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

# on a second Python: each kind of test, of those with many cases the first and the last
test-short: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" --cases 2 \
	  tests/nn tests/models tests/compat tests/commands $(ARGS)

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist load -m slow $(ARGS)

docs: install
	$(BIN)/mkdocs build --strict

bench: install
	OMP_NUM_THREADS=1 $(BIN)/python -m skipln_fairseq.bench $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.docs.snippets > $(VENV)/snippets.py
	$(BIN)/mypy --allow-redefinition --ignore-missing-imports $(VENV)/snippets.py

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

package: install
	rm -rf dist build
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

COMPILE := uv pip compile --quiet --upgrade --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
  --custom-compile-command "make lock"

lock:
	for version in $(VERSIONS); do \
	  $(COMPILE) --python-version $$version requirements/lock.in \
	    --output-file requirements/py$$(echo $$version | tr -d .).lock || exit; \
	done
	$(COMPILE) --python-version 3.12 --constraint requirements/py312.lock requirements/gpu.in \
	  --output-file requirements/gpu.lock

# for Python 3.12 on Linux x86-64, whatever this one is; what has no wheel is pure Python, and is built here
BUNDLE := build/gpu-bundle
FOREIGN := --python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64

gpu-bundle: install
	rm -rf $(BUNDLE)
	for each in gpu.lock fairseq.txt; do \
	  $(PIP) download --quiet --no-deps --no-build-isolation --require-hashes $(FOREIGN) --dest $(BUNDLE) \
	    -r requirements/$$each || exit; \
	done
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir $(BUNDLE) $(BUNDLE)/*.tar.gz
	rm $(BUNDLE)/*.tar.gz
	@du -sh $(BUNDLE)

clean:
	rm -rf $(VENV) build dist *.egg-info
