# `make check` is what CI runs. BIN is the folder of a virtual environment's programs.
BIN ?= .venv/bin
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: docs figures check lint types test pretrain-smoke slow bench bench-compare bench-cuda roofline picture \
	bounds audit fuzz faults soak coverage mutants lock

check: lint types test

lint:
	ruff check .
	ruff format --check .

types:
	mypy

# Processes that run tests; files are not divided.
JOBS ?= 2
test:
	python -m pytest -n $(JOBS) --dist loadfile --benchmark-disable

# Corpus to embedding with a tiny network, through the command lines
pretrain-smoke:
	python -m pytest tests/test_pretrain_smoke.py

# Parity over many chains with the large data; takes minutes
slow:
	python -m pytest -m slow

bench:
	mkdir -p .benchmarks
	python -m pytest --benchmark-only --ignore=benchmarks/test_compare.py --benchmark-json=.benchmarks/latest.json
	python benchmarks/record.py .benchmarks/latest.json benchmarks/results.md

# Comparison with other encoders; ten minutes on one core, 6 GB of memory
bench-compare:
	mkdir -p .benchmarks
	python -m pytest benchmarks/test_compare.py --benchmark-only -rs --benchmark-json=.benchmarks/compare.json
	python benchmarks/record.py .benchmarks/compare.json benchmarks/compare.md sdk/docs/compare.png

# Install the wheel in new environments, with the lowest and the newest supported dependencies
bounds:
	python tests/bounds.py

# Known vulnerabilities of the installed packages; reports when no database can be reached
audit:
	python tests/audit.py

# Robustness: 300,000 malformed inputs and guided fuzzing (45 minutes), injected faults, 10,000 embeddings (10 minutes)
fuzz:
	python tests/fuzz/run.py --inputs 300000 --seed 2 -o tests/fuzz/results.md
	python tests/fuzz/guided.py -o tests/fuzz/guided.md

faults:
	python tests/faults/faults.py -o tests/faults/results.md

soak:
	python tests/soak.py -o tests/soak.md

# Test quality: line coverage (10 minutes) and mutation tests (more than an hour)
coverage:
	python tests/covered.py

mutants:
	python tests/mutants.py

# Pinned versions of the development environment
lock:
	uv pip compile -q pyproject.toml --extra dev --python-version 3.11.5 -o tests/lock.txt

# Profile, and the limits of the hardware
roofline:
	python benchmarks/roofline.py -o benchmarks/roofline.md

# Needs a GPU; skips with a reason without one
bench-cuda:
	python -m pytest benchmarks/test_cuda.py --benchmark-only -rs --benchmark-json=.benchmarks/cuda.json
	python benchmarks/record.py .benchmarks/cuda.json benchmarks/cuda.md

# The figure of the README
picture:
	python sdk/docs/overview.py

# The figures of the paper, redrawn for the documentation
figures:
	python sdk/docs/figures.py

# The documentation as a site, in build/site
docs:
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict -q -f sdk/mkdocs.yml -d ../build/site
