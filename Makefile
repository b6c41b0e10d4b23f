# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv first, if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
DEMO := demo-data
STORE := demo-store
BENCH := bench-data

.PHONY: demo test lowest lint docs promises soak bench bench-gpu reproduce install clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/installed
	@BIN=$(CURDIR)/$(BIN) DEMO=$(DEMO) STORE=$(STORE) sh examples/demo.sh

test: $(VENV)/installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# The tests with the lowest versions that pyproject.toml admits, in an environment of their own.
lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -o filterwarnings=default

$(LOWEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) tests/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/constraints.txt --editable '.[dev]'
	touch $@

docs: $(VENV)/installed
	$(BIN)/mkdocs build --strict --quiet

# Every promise of docs/calibration.md by 1,000 calibrations; half an hour.
promises: $(VENV)/installed
	$(BIN)/python -m tests.promises

# What is too long for `make test`: every fault at every operation of every command.
soak: $(VENV)/installed
	$(BIN)/python -m tests.faults.runs
	$(BIN)/python -m tests.faults.copies
	$(BIN)/python -m tests.faults.ray_nodes
	$(BIN)/python -m tests.faults.replicas 120
	NEARSHOT_CUTS=all $(BIN)/python -m pytest tests/vectors/test_mirrors.py
	$(BIN)/python -m tests.faults.mirrors
	$(BIN)/python -m tests.faults.power
	$(BIN)/python -m tests.faults.flips
	$(BIN)/python -m tests.faults.mutants
	NEARSHOT_HISTORIES=300 $(BIN)/python -m pytest tests/faults/test_histories.py
	NEARSHOT_KILLS=20 NEARSHOT_SHOTS=500 $(BIN)/python -m pytest tests/indexer/test_crash.py tests/service/test_abuse.py
	NEARSHOT_REVIEWED=1000 $(BIN)/python -m pytest tests/service/test_review.py -k hundreds
	NEARSHOT_LABELLED=10000 $(BIN)/python -m pytest tests/service/test_labelling.py

# The figures at the top of benchmarks/README.md, on a CPU: some 25 minutes on 2 cores.
bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.cold --weights $(BENCH)/weights
	$(BIN)/python -m benchmarks.index --runtime onnx --images 160 --rounds 2 --weights $(BENCH)/weights
	$(BIN)/python -m benchmarks.precision --weights $(BENCH)/weights
	$(BIN)/python -m benchmarks.commands --files 20000
	$(BIN)/python -m benchmarks.growth --images 1000 10000

# On an NVIDIA GPU; some ten minutes.
bench-gpu: $(VENV)/installed
	$(BIN)/python -m pytest tests/backbones/test_gpu.py
	$(BIN)/python -m benchmarks.gpu --images 6000 --threads-images 150 --compile --weights $(BENCH)/weights
	$(BIN)/python -m benchmarks.captions --images 192 --tokens 24 --device cuda --precision fp32
	$(BIN)/python -m benchmarks.captions --images 256 --tokens 24 --device cuda --precision bf16 --many 0

# Published figures with the real weights, CIFAR-10 and STL-10; needs a network, and without a GPU much time.
reproduce: $(VENV)/installed
	$(BIN)/python -m benchmarks.reproduce $(ARGUMENTS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(LOWEST) $(DEMO) $(STORE) $(BENCH) site *.egg-info .mypy_cache .ruff_cache .pytest_cache
