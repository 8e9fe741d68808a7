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

test:
	python -m pytest

# Corpus to embedding with a tiny network, through the command lines
pretrain-smoke:
	python -m pytest tests/test_pretrain_smoke.py

# Minutes: parity over many chains with the shared data
slow:
	python -m pytest -m slow

bench:
	mkdir -p .benchmarks
	python -m pytest --benchmark-only --ignore=benchmarks/test_compare.py --benchmark-json=.benchmarks/latest.json
	python benchmarks/record.py .benchmarks/latest.json benchmarks/results.md

# Beside what a user would pick instead: some ten minutes on one core, 6 GB
bench-compare:
	mkdir -p .benchmarks
	python -m pytest benchmarks/test_compare.py --benchmark-only -rs --benchmark-json=.benchmarks/compare.json
	python benchmarks/record.py .benchmarks/compare.json benchmarks/compare.md sdk/docs/compare.png

# The wheel alone in new environments, at the lowest and the newest of what it needs
bounds:
	python tests/bounds.py

# Known vulnerabilities of what is installed; says so where no database can be asked
audit:
	python tests/audit.py

# What cannot hurt: 300,000 nasty inputs, and readers led into every branch (45 minutes), faults done for real, 10,000 embeddings in a row (10 minutes)
fuzz:
	python tests/fuzz/run.py --inputs 300000 --seed 2 -o tests/fuzz/results.md
	python tests/fuzz/guided.py -o tests/fuzz/guided.md

faults:
	python tests/faults/faults.py -o tests/faults/results.md

soak:
	python tests/soak.py -o tests/soak.md

# What the tests would notice: lines that they run (ten minutes), and code broken on purpose (an hour and more)
coverage:
	python tests/covered.py

mutants:
	python tests/mutants.py

# The environment that development knows to work
lock:
	uv pip compile -q pyproject.toml --extra dev --python-version 3.11 -o tests/lock.txt

# Where the time goes, and what the machine allows
roofline:
	python benchmarks/roofline.py -o benchmarks/roofline.md

# Where there is a GPU; skips with the reason where there is none
bench-cuda:
	python -m pytest benchmarks/test_cuda.py --benchmark-only -rs --benchmark-json=.benchmarks/cuda.json
	python benchmarks/record.py .benchmarks/cuda.json benchmarks/cuda.md

picture:
	python -m protemb_sdk.cli plot tests/structures/4zhl.cif.gz --chain U -o sdk/docs/pair_embedding.png

# The paper's figures, for the documentation
figures:
	python sdk/docs/figures.py

# The documentation as a site, in build/site
docs:
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict -q -f sdk/mkdocs.yml -d ../build/site
