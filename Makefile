# `make test` and `make demo` work on a fresh machine with Python 3.11 or later; everything goes into virtual
# environments under .venv and build/.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TYPING := build/typing/mlic
DEMO_VENV := build/demo-venv
PHOTO := tests/photos/kodim03.png
NATIVE := build/native
FUZZ_SECONDS ?= 30
# A fuzzer may neither hold more memory nor take longer for one file than any honest file asks for.
FUZZ := -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=10 -max_len=4096

.PHONY: test check lint typing unit format dist engines aarch64 native fuzz fuzz-python demo clean

test: check

check: lint typing unit

# torch first and by exact version: other spellings fetch gigabytes of CUDA libraries, and so would packages that pull
# it in themselves.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[cpu,openvino,export,ray,report,test]'
	touch $@

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# Type checkers cannot follow the mapping of folders to packages in pyproject.toml; links can.
typing: $(READY)
	mkdir -p $(TYPING)
	for folder in calibration export runtime tools; do ln -sfn ../../../$$folder $(TYPING)/$$folder; done
	MYPYPATH=build/typing $(BIN)/mypy -p mlic

# Two workers of one thread each; tests that share an exported bundle stay on one worker. A worker that dies ends the
# run: with another in its place, pytest-xdist may wait forever for tests that nobody has.
unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --max-worker-restart 0

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The source distribution, and the wheel that is made of it, in dist/. What earlier builds left would be packed too.
dist: $(READY)
	rm -rf dist build/lib mlic_deploy.egg-info
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*

# Engines to compare with, each in a folder of its own under build/engines. Tests skip those that are not there.
engines: $(READY)
	$(BIN)/python -m mlic.tools.engines.install

# ONNX Runtime on arm64, emulated; Debian only, 0.14 GB fetched. Its tests skip where it is not there.
aarch64: $(READY)
	$(BIN)/python -m mlic.tools.engines.aarch64

# libmlic: the tests build it with sanitizers in $(NATIVE)/sanitized; here it is built for use and installed into a
# scratch prefix, and the examples find it there as an outside project would. Needs CMake, a C++17 compiler, zlib and
# nlohmann's JSON; ONNX Runtime's headers come from a Debian package that is unpacked and not installed.
native: $(READY)
	$(BIN)/python -m mlic.tools.engines.native
	cmake -S runtime/native -B $(NATIVE)/release -DONNXRUNTIME_ROOT=$(CURDIR)/$(NATIVE)/headers -DMLIC_TESTS=ON \
	  -DMLIC_WERROR=ON
	cmake --build $(NATIVE)/release --parallel 2
	rm -rf $(NATIVE)/prefix $(NATIVE)/examples
	cmake --install $(NATIVE)/release --prefix $(NATIVE)/prefix
	cmake -S runtime/native/examples -B $(NATIVE)/examples -DCMAKE_PREFIX_PATH=$(CURDIR)/$(NATIVE)/prefix
	cmake --build $(NATIVE)/examples
	$(BIN)/python -c "from PIL import Image; Image.open('$(PHOTO)').save('$(NATIVE)/photo.ppm')"
	MLIC_ONNXRUNTIME=$$($(BIN)/python -m mlic.tools.engines.native | tail -n 1) && export MLIC_ONNXRUNTIME && \
	  $(NATIVE)/examples/encode runtime/models/mlicpp-n64-m192-medium $(NATIVE)/photo.ppm $(NATIVE)/photo.mlic && \
	  $(NATIVE)/examples/decode_to_ppm runtime/models/mlicpp-n64-m192-medium $(NATIVE)/photo.mlic $(NATIVE)/decoded.ppm

# libFuzzer, which comes with clang. What it finds lies in $(NATIVE)/fuzz.
fuzz: $(READY)
	$(BIN)/python -m mlic.tools.engines.native
	cmake -S runtime/native -B $(NATIVE)/fuzz -DONNXRUNTIME_ROOT=$(CURDIR)/$(NATIVE)/headers -DMLIC_FUZZ=ON \
	  -DMLIC_SANITIZE=ON -DMLIC_SHARED=OFF -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
	  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g"
	cmake --build $(NATIVE)/fuzz --parallel 2
	mkdir -p $(NATIVE)/fuzz/decode $(NATIVE)/fuzz/decode-integer $(NATIVE)/fuzz/container $(NATIVE)/fuzz/bundles
	$(BIN)/python -m tests.native.seeds $(NATIVE)/fuzz
	$(NATIVE)/fuzz/fuzz/fuzz_container $(FUZZ) -artifact_prefix=$(NATIVE)/fuzz/ $(NATIVE)/fuzz/container \
	  $(NATIVE)/fuzz/corpus $(NATIVE)/fuzz/integer-corpus
	$(NATIVE)/fuzz/fuzz/fuzz_bundle $(FUZZ) -max_len=8192 -artifact_prefix=$(NATIVE)/fuzz/ $(NATIVE)/fuzz/bundles \
	  $(NATIVE)/fuzz/parts
	MLIC_FUZZ_BUNDLE=$(NATIVE)/fuzz/bundle \
	  MLIC_ONNXRUNTIME=$$($(BIN)/python -m mlic.tools.engines.native | tail -n 1) \
	  $(NATIVE)/fuzz/fuzz/fuzz_decode $(FUZZ) -artifact_prefix=$(NATIVE)/fuzz/ $(NATIVE)/fuzz/decode $(NATIVE)/fuzz/corpus
	MLIC_FUZZ_BUNDLE=$(NATIVE)/fuzz/integer \
	  MLIC_ONNXRUNTIME=$$($(BIN)/python -m mlic.tools.engines.native | tail -n 1) \
	  $(NATIVE)/fuzz/fuzz/fuzz_decode $(FUZZ) -artifact_prefix=$(NATIVE)/fuzz/ $(NATIVE)/fuzz/decode-integer \
	  $(NATIVE)/fuzz/integer-corpus

# The Python runtime: damaged inputs by a seeded mutator, $(FUZZ_SECONDS) for each target, going on where the last run
# ended; then by atheris, if it is installed (pip install '.[fuzz]'). Figures and findings lie in build/fuzz-python.
fuzz-python: $(READY)
	mkdir -p build/fuzz-python
	test -d build/fuzz-python/integer || $(BIN)/python -m tests.native.seeds build/fuzz-python
	OMP_NUM_THREADS=1 $(BIN)/python -m mlic.tools.fuzz build/fuzz-python --seconds $(FUZZ_SECONDS)
	if $(BIN)/python -c "import atheris" 2>/dev/null; then \
	  for target in container ans escapes syndrome manifest tables packed decode integer; do \
	    OMP_NUM_THREADS=1 $(BIN)/python -m mlic.tools.fuzz build/fuzz-python --targets $$target --engine atheris \
	      --seconds $(FUZZ_SECONDS) || exit 1; \
	  done; \
	fi

# The runtime alone: no torch, no export tools.
demo:
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python -m pip install --quiet --upgrade pip
	rm -rf build/lib  # what an earlier build left would be packed too
	$(DEMO_VENV)/bin/python -m pip install --quiet '.[cpu]'
	$(DEMO_VENV)/bin/python -m mlic.tools.demo $(PHOTO) demo

clean:
	rm -rf $(VENV) build dist demo *.egg-info
