# The verbs of this repository. Everything lands in .venv and runs/, nothing outside.
#   make install     the locked environment (Python 3.11)
#   make demo        a real corpus, a training, translations and BLEU; arguments: make demo ARGS="--target-lang fr"
#   make test        the tests            make test-slow   the long ones
#   make docs        the site of docs/, into build/site
#   make bench       time and memory beside fairseq's transformer; arguments: make bench ARGS="grow depth --shapes iwslt"
#   make lint        ruff's and mypy's checks   make format      ruff's formatting        make lock   renew the lock (needs uv)
# To spare a machine without GPU the CUDA build of torch:
#   make install TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV ?= .venv
TORCH_INDEX ?=
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCKS := requirements/py311.lock requirements/torch.txt requirements/fairseq.txt
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: install demo test test-slow docs bench lint format lock clean
.DELETE_ON_ERROR:

install: $(VENV)/installed

$(VENV)/installed: $(LOCKS) setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo 'make: the locked environment is for Python 3.11, and "$(PYTHON)" is not one: make install PYTHON=/path/to/python3.11 (other versions: see docs/install.md)' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo 'make: "$(PYTHON)" cannot create virtual environments: install its venv module (Debian: apt-get install python3-venv)' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --require-hashes -r requirements/py311.lock
	$(PIP) install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements/torch.txt
	$(PIP) install --no-deps --require-hashes -r requirements/fairseq.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	$(BIN)/python -m examples.demo $(ARGS)

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

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

lock:
	uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-annotate \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  requirements/lock.in --output-file requirements/py311.lock

clean:
	rm -rf $(VENV) build *.egg-info
