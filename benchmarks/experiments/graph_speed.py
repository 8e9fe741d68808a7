"""Speed of the exported graph of each architecture of trials.py, in float32 and int8, measured alternately.

    python benchmarks/experiments/graph_speed.py corpus.arrow -o benchmarks/experiments/graph_speed.md

Weights are random; they do not affect the speed.
"""

from __future__ import annotations

import runpy
import statistics
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import onnx
import onnxruntime
import typer

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.machine import one_thread
from protemb_export.graph import embedding_graph
from protemb_export.quantise import Int8Blocks
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.network.config import NetworkConfig
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import BASE_1, PAPER

TRIALS = Path(__file__).parents[2] / "train" / "results" / "trials.py"
LENGTHS = (128, 256)
CALIBRATION_CHAINS = 3


def feed(trace: Trace, length: int) -> dict[str, Any]:
    """Return the inputs of the graph for the first residues of a chain."""
    return {
        "ca_coords": trace.ca_coords[None, :length],
        "residue_type": trace.residue_type[None, :length],
        "residue_index": trace.residue_index[None, :length],
    }


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return a session on one thread."""
    return onnxruntime.InferenceSession(
        model.SerializeToString(), one_thread(), providers=["CPUExecutionProvider"]
    )


def sessions_of(config: NetworkConfig, corpus: Corpus) -> dict[str, onnxruntime.InferenceSession]:
    """Return sessions of the float32 graph and, for the family base, of the int8 graph."""
    exact = embedding_graph(ScoreNetwork(config).eval(), 1.0, {})
    found = {"float32": session(exact)}
    if config.family == "base":
        long_enough = (corpus[i] for i in range(len(corpus)) if corpus.lengths[i] >= 100)
        blocks = Int8Blocks(exact)
        ranges = blocks.ranges(feed(trace, 100) for trace in islice(long_enough, CALIBRATION_CHAINS))
        found["int8"] = session(blocks.quantised(ranges))
    return found


def main(
    corpus: Path, out: Annotated[Path, typer.Option("-o", "--out", help="Table to write.")], rounds: int = 7
) -> None:
    """Measure, and write the table."""
    trials = runpy.run_path(str(TRIALS))["TRIALS"]
    shapes = {trial.what: replace(BASE_1, **trial.network) for trial in trials["architecture"]}
    shapes["paper"] = PAPER
    validation = Corpus(corpus, ["val"])
    longest = next(validation[i] for i in range(len(validation)) if validation.lengths[i] >= max(LENGTHS))
    sessions = {name: sessions_of(config, validation) for name, config in shapes.items()}
    rows = [
        "# Speed by network architecture",
        "",
        "Written by `python benchmarks/experiments/graph_speed.py corpus.arrow`. Seconds, one thread, "
        f"medians of {rounds} alternating rounds.",
        "",
        f"| network | multiplications per pair | {' | '.join(f'{n} float32 | {n} int8' for n in LENGTHS)} |",
        "|---" * (2 + 2 * len(LENGTHS)) + "|",
    ]
    seconds: dict[tuple[str, int, str], list[float]] = {}
    for _ in range(rounds):
        for name, kinds in sessions.items():
            for length in LENGTHS:
                for kind, runner in kinds.items():
                    start = time.perf_counter()
                    runner.run(["residue"], feed(longest, length))
                    seconds.setdefault((name, length, kind), []).append(time.perf_counter() - start)
    for name, config in shapes.items():
        cells = [
            f"{statistics.median(seconds[name, length, kind]):.3f}" if kind in sessions[name] else ""
            for length in LENGTHS
            for kind in ("float32", "int8")
        ]
        rows.append(f"| {name} | {ScoreNetwork(config).multiplications:,} | {' | '.join(cells)} |")
    out.write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    typer.run(main)
