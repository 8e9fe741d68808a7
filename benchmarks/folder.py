"""A folder of real files: throughput by workers and threads, memory during the run, and profile.

    python benchmarks/folder.py STRUCTURES -o benchmarks/folder.md --files 1000

Files that are not protein structures are skipped and counted.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import processor
from protemb_sdk import Embedder, ProtembError
from protemb_sdk._base.folders import find_structures

BINS = ((30, 100), (100, 160), (160, 300), (300, 450), (450, 600), (600, 1500))


class Memory(threading.Thread):
    """Records the memory of this process and its children, twice per second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mib: list[float] = []
        self._over = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self._over.wait(0.5):
            held = 0.0
            for process in (me, *me.children(recursive=True)):
                try:
                    held += process.memory_info().rss
                except psutil.Error:  # the process has ended
                    continue
            self.mib.append(held / 2**20)

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self.join()

    def quarters(self) -> list[int]:
        """Return the largest amount in each quarter of the run."""
        return [round(max(part)) for part in np.array_split(self.mib, 4) if len(part)]


def throughput(paths: list[str], model: str, workers: int, threads: int) -> Iterator[object]:
    """Embed all files once; yield the cells of a row."""
    embedder = Embedder(model, device="cpu", threads=threads)
    lengths = []
    start = time.perf_counter()
    with Memory() as memory, embedder.embed_many(paths, workers=workers, on_error="skip") as run:
        for embedding in run:
            lengths.append(len(embedding))
        failed = sum(skipped.error is not None for skipped in run.skipped)
    seconds = time.perf_counter() - start
    yield from (model, workers, threads, len(lengths), failed, f"{seconds:.0f}")
    yield f"{len(lengths) / seconds:.1f}"
    yield f"{sum(n * n for n in lengths) / seconds / 1e6:.2f}"
    yield ", ".join(map(str, memory.quarters()))


@dataclass
class Share:
    """Times of one chain in seconds."""

    length: int
    reading: float
    network: float = 0.0
    rest: float = 0.0

    @property
    def outside(self) -> float:
        """Share of the time outside the network."""
        return (self.reading + self.rest) / (self.reading + self.network + self.rest)


@dataclass
class Stopwatch:
    """Measures the times of a session's runs."""

    run: Any
    taken: list[float] = field(default_factory=list)

    def __call__(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = self.run(*arguments)
        self.taken.append(time.perf_counter() - start)
        return result


def shares(paths: list[str], model: str) -> Iterator[Share]:
    """Embed files one by one on one thread; the time of reading a file is divided among its chains."""
    embedder = Embedder(model, device="cpu", threads=1)
    watch = Stopwatch(embedder._session.run)
    embedder._session.run = watch  # type: ignore[method-assign]
    for path in paths:
        start = time.perf_counter()
        try:
            chains = embedder.read(path).chains
        except ProtembError:
            continue
        reading = (time.perf_counter() - start) / max(len(chains), 1)
        for chain in chains:
            watch.taken.clear()
            start = time.perf_counter()
            embedder.embed_chain(chain)
            seconds, network = time.perf_counter() - start, sum(watch.taken)
            yield Share(len(chain), reading, network, seconds - network)


def of_shares(paths: list[str], model: str) -> Iterator[str]:
    """Yield the rows of one model: medians by length."""
    found = list(shares(paths, model))
    for low, high in BINS:
        of = [share for share in found if low <= share.length < high]
        if of:
            median = {
                name: statistics.median(getattr(share, name) for share in of)
                for name in ("length", "reading", "network", "rest", "outside")
            }
            times = (f"{median[name] * 1e3:.2f}" for name in ("reading", "network", "rest"))
            cells = (model, f"{low} to {high - 1}", len(of), round(median["length"]), *times)
            yield "| " + " | ".join(map(str, (*cells, f"{median['outside']:.1%}"))) + " |"


def main(
    structures: Annotated[Path, typer.Argument(help="Folder of structure files.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")],
    files: Annotated[int, typer.Option(help="Number of random files.")] = 1000,
    model: Annotated[list[str] | None, typer.Option(help="Bundled model.")] = None,
) -> None:
    """Measure, and write the page."""
    paths = list(map(str, find_structures(str(structures))))
    chosen = sorted(np.random.default_rng(0).permutation(len(paths))[:files])
    paths = [paths[i] for i in chosen]
    lines = [
        "# A folder of real files\n",
        f"Written by `python benchmarks/folder.py {structures.name}`: {len(paths)} files, {processor()}, "
        f"{psutil.cpu_count()} cores.\n",
        "| model | workers | threads each | chains | failed inputs and chains | s | chains/s | "
        "million pairs/s | peak memory in each quarter of the run, MiB |",
        "|---" * 9 + "|",
    ]
    models = model or ["base", "base-int8"]
    for name in models:
        for workers, threads in ((1, 1), (1, 2), (2, 2)):
            # embed_many divides the threads of an embedder among its workers.
            row = list(throughput(paths, name, workers, threads))
            row[2] = threads // workers
            lines.append("| " + " | ".join(map(str, row)) + " |")
            print(lines[-1], flush=True)
    lines += [
        "\nMemory is that of the process and its workers together (resident set size).",
        "\n## Time per chain\n",
        "Milliseconds on one thread, medians by length; features are computed in the network's graph "
        "(`roofline.md`).\n",
        "| model | residues | chains | median | reading | network | checks, arrays, pooling | outside the "
        "network |",
        "|---" * 8 + "|",
    ]
    for name in models:
        lines += of_shares(paths, name)
    out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
