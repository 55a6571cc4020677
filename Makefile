# `make test` and `make demo` work on a fresh machine with Python 3.11 or later; everything goes into virtual
# environments under .venv and build/.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TYPING := build/typing/mlic
DEMO_VENV := build/demo-venv
PHOTO := tests/photos/kodim03.png

.PHONY: test check lint typing unit format engines aarch64 demo clean

test: check

check: lint typing unit

# torch first and by exact version: other spellings fetch gigabytes of CUDA libraries, and so would packages that pull
# it in themselves.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[cpu,openvino,export,report,test]'
	touch $@

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# Type checkers cannot follow the mapping of folders to packages in pyproject.toml; links can.
typing: $(READY)
	mkdir -p $(TYPING)
	for folder in calibration export runtime tools; do ln -sfn ../../../$$folder $(TYPING)/$$folder; done
	MYPYPATH=build/typing $(BIN)/mypy -p mlic

# Two workers of one thread each; tests that share an exported bundle stay on one worker.
unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Engines to compare with, each in a folder of its own under build/engines. Tests skip those that are not there.
engines: $(READY)
	$(BIN)/python -m mlic.tools.engines.install

# ONNX Runtime on arm64, emulated; Debian only, 0.14 GB fetched. Its tests skip where it is not there.
aarch64: $(READY)
	$(BIN)/python -m mlic.tools.engines.aarch64

# The runtime alone: no torch, no export tools.
demo:
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python -m pip install --quiet --upgrade pip
	rm -rf build/lib  # what an earlier build left would be packed too
	$(DEMO_VENV)/bin/python -m pip install --quiet '.[cpu]'
	$(DEMO_VENV)/bin/python -m mlic.tools.demo $(PHOTO) demo

clean:
	rm -rf $(VENV) build dist demo *.egg-info
