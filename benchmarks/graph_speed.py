"""Speed of the exported graph of each architecture of trials.py, in float32 and static int8, in turn.

    python benchmarks/graph_speed.py corpus.arrow -o benchmarks/graph_speed.md

Weights are random: they do not change the speed.
"""

from __future__ import annotations

import logging
import runpy
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import onnx
import onnxruntime
import typer
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from protemb_export.graph import embedding_graph
from protemb_train.corpus import Corpus, Trace
from protemb_train.network import ScoreNetwork
from protemb_train.presets import BASE, PAPER, NetworkConfig

TRIALS = Path(__file__).parents[1] / "train" / "results" / "trials.py"
LENGTHS = (128, 256)
CALIBRATION_CHAINS = 3


def feed(trace: Trace, length: int) -> dict[str, Any]:
    """Return the inputs of the graph for the first residues of a chain."""
    return {
        "ca_coords": trace.ca_coords[None, :length],
        "residue_type": trace.residue_type[None, :length],
        "residue_index": trace.residue_index[None, :length],
    }


class RealChains(CalibrationDataReader):
    """Chains to calibrate the ranges of int8 on."""

    def __init__(self, traces: Iterator[Trace]) -> None:
        self.feeds = (feed(trace, 100) for trace in traces)

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def session(path: Path) -> onnxruntime.InferenceSession:
    """Return a session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def both_sessions(config: NetworkConfig, corpus: Corpus) -> dict[str, onnxruntime.InferenceSession]:
    """Return a session of the float32 and one of the int8 graph."""
    long_enough = (corpus[i] for i in range(len(corpus)) if corpus.lengths[i] >= 100)
    with tempfile.TemporaryDirectory() as folder:
        exact, quantised = Path(folder) / "exact.onnx", Path(folder) / "int8.onnx"
        onnx.save(embedding_graph(ScoreNetwork(config).eval(), 1.0, {}), exact)
        calibration = RealChains(
            trace for trace, _ in zip(long_enough, range(CALIBRATION_CHAINS), strict=False)
        )
        quantize_static(
            exact,
            quantised,
            calibration,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv", "Relu", "Add"],
        )
        return {"float32": session(exact), "int8": session(quantised)}


def main(
    corpus: Path, out: Annotated[Path, typer.Option("-o", "--out", help="Table to write.")], rounds: int = 7
) -> None:
    """Measure, and write the table."""
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser's advice to pre-process
    trials = runpy.run_path(str(TRIALS))["TRIALS"]
    shapes = {trial.what: replace(BASE, **trial.network) for trial in trials["architecture"]}
    shapes["paper"] = PAPER
    validation = Corpus(corpus, ["val"])
    longest = next(validation[i] for i in range(len(validation)) if validation.lengths[i] >= max(LENGTHS))
    sessions = {name: both_sessions(config, validation) for name, config in shapes.items()}
    rows = [
        f"Seconds, one thread, medians of {rounds} rounds in turn.",
        "",
        f"| network | multiplications a pair | {' | '.join(f'{n} float32 | {n} int8' for n in LENGTHS)} |",
        "|---" * (2 + 2 * len(LENGTHS)) + "|",
    ]
    seconds: dict[tuple[str, int, str], list[float]] = {}
    for _ in range(rounds):
        for name, kinds in sessions.items():
            for length in LENGTHS:
                for kind, runner in kinds.items():
                    start = time.perf_counter()
                    runner.run(["pair"], feed(longest, length))
                    seconds.setdefault((name, length, kind), []).append(time.perf_counter() - start)
    for name, config in shapes.items():
        cells = [
            f"{statistics.median(seconds[name, length, kind]):.3f}"
            for length in LENGTHS
            for kind in ("float32", "int8")
        ]
        rows.append(f"| {name} | {ScoreNetwork(config).multiplications:,} | {' | '.join(cells)} |")
    out.write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    typer.run(main)
