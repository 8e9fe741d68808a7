"""Long-running test: thousands of embeddings in threads and in workers, with constant memory and results.

python tests/soak.py -o tests/soak.md        # some minutes
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
import psutil

from protemb_sdk import Chain, Embedder, Embedding, read_chain
from protemb_sdk import __version__ as sdk_version
from protemb_sdk._base.threads import usable_threads

THREADS, WORKERS, WARM = 8, 2, 500
EVERY = 4 * THREADS  # memory is measured when the threads are idle, without pair maps in progress
CHAINS, SHORTEST, LONGEST = 300, 10, 300  # different chains, of mixed lengths
MAY_GROW = 1.05


@dataclass(frozen=True)
class Soaked:
    """Result of one method: embeddings, seconds, memory early and late in bytes, different results."""

    way: str
    count: int
    seconds: float
    early: int
    late: int
    different: int

    @property
    def flat(self) -> bool:
        return self.late <= MAY_GROW * self.early

    def row(self) -> str:
        sizes = (f"{size / 2**20:.0f}" for size in (self.early, self.late))
        grown = f"{self.late / self.early - 1:+.1%}"
        cells = (self.way, f"{self.count:,}", f"{self.seconds:.0f} s", *sizes, grown, str(self.different))
        return f"| {' | '.join(cells)} |"


def walk(length: int, rng: np.random.Generator) -> Chain:
    """Return a chain with bonds of 3.8 angstrom."""
    steps = rng.normal(size=(length, 3)) + np.array([0.6, 0, 0])
    coords = (3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True)).cumsum(axis=0)
    return read_chain((coords, "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), size=length))))


def memory() -> int:
    """Return the unique set size of this process and its children in bytes."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(process.memory_full_info().uss for process in processes)


def by_threads(embedder: Embedder, chains: list[Chain], order: list[int]) -> Iterator[tuple[int, Embedding]]:
    """Yield embeddings computed by threads that share one embedder."""

    def one(place: int) -> tuple[int, Embedding]:
        return place, embedder.embed_chain(chains[place], readouts=("contact",) if place % 5 == 0 else ())

    with ThreadPoolExecutor(THREADS) as pool:
        todo = iter(order)
        while some := list(islice(todo, 4 * THREADS)):
            yield from pool.map(one, some)


def by_workers(embedder: Embedder, chains: list[Chain], order: list[int]) -> Iterator[tuple[int, Embedding]]:
    """Yield embeddings computed by worker processes."""
    with embedder.embed_many((chains[place] for place in order), workers=WORKERS) as run:
        yield from zip(order, run, strict=True)


def soak(way: str, found: Iterator[tuple[int, Embedding]], expected: list[Embedding], count: int) -> Soaked:
    """Compare embeddings with the expected ones, and measure memory."""
    start, sizes, different = time.monotonic(), [], 0
    for number, (place, embedding) in enumerate(found, start=1):
        same = np.array_equal(embedding.residue, expected[place].residue)
        different += not (same and np.array_equal(embedding.protein, expected[place].protein))
        if number % EVERY == 0:
            sizes.append(memory())
        if number % WARM == 0:
            print(f"{way}: {largest(sizes) / 2**20:.0f} MiB up to {number}", flush=True)
    assert number == count
    early, late = largest(sizes[: WARM // EVERY]), largest(sizes)
    return Soaked(way, count, time.monotonic() - start, early, late, different)


def largest(sizes: list[int]) -> int:
    """Return the largest memory of the last 500 embeddings, as memory kept between chains varies."""
    return max(sizes[-WARM // EVERY :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", type=int, default=5000, help="for each method")
    parser.add_argument("--model", default="base")
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    chains = [walk(int(length), rng) for length in rng.integers(SHORTEST, LONGEST, size=CHAINS)]
    order = rng.integers(CHAINS, size=options.embeddings).tolist()
    done = []
    for name, way, threads in (
        # The number of threads must agree, because it changes the order of sums.
        (f"{WORKERS} workers", by_workers, max(usable_threads() // WORKERS, 1)),
        (f"{THREADS} threads, one Embedder", by_threads, usable_threads()),
    ):
        embedder = Embedder(options.model, "cpu", threads=threads)
        expected = [embedder.embed_chain(chain) for chain in chains]
        done.append(soak(name, way(embedder, chains, order), expected, len(order)))
    text = [
        "# Long-running test",
        "",
        f"Written by `python tests/soak.py -o tests/soak.md` on {date.today()}: protemb {sdk_version}, model "
        f"`{options.model}`, ONNX Runtime {onnxruntime.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores. {CHAINS} chains of {SHORTEST} to {LONGEST} residues in random order; "
        "memory is the unique set size (USS) of the process and its workers, MiB.",
        "",
        f"| method | embeddings | time | largest memory, first {WARM} | last {WARM} | growth "
        "| different from sequential |",
        "|---|---|---|---|---|---|---|",
        *(one.row() for one in done),
    ]
    print("\n".join(text))
    if options.out:
        options.out.write_text("\n".join(text) + "\n")
    if not all(one.flat and one.different == 0 for one in done):
        sys.exit(1)


if __name__ == "__main__":
    main()
