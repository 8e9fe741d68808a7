"""Time of OpenVINO compared with ONNX Runtime, on one core.

    pip install openvino==2026.4.1
    python benchmarks/experiments/openvino_speed.py -o benchmarks/experiments/openvino.md

OpenVINO cannot load the optional inputs of strips, whose defaults are empty; they are removed here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import openvino
import typer

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.machine import median_seconds, processor
from benchmarks.roofline import OUTPUTS, compact_chain
from protemb_sdk import Embedder
from protemb_sdk._model.models import find_model

ROUNDS = 9
LENGTHS = (128, 256, 512)
MODELS = ("base", "small")
PRECISIONS = ("f32", "bf16")


def without_strips(path: Path) -> bytes:
    """Return a graph for whole chains only."""
    model = onnx.load(path)
    graph = model.graph
    count = sum(value.name.removeprefix("means_").isdigit() for value in graph.input)
    parts = ("own_flat", "given_flat", "both", "taken", "used")
    dropped = {f"{part}_{k}" for part in parts for k in range(count)}
    nodes = [node for node in graph.node if not dropped.intersection(node.output)]
    for node in nodes:
        for place, name in enumerate(node.input):
            if name.startswith("used_") and name in dropped:
                node.input[place] = f"strip_means_{name.removeprefix('used_')}"
    inputs = [value for value in graph.input if value.name in compact_chain(8)]
    outputs = [value for value in graph.output if value.name in OUTPUTS]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    return model.SerializeToString()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the lowest cosine of two rows."""
    x, y = a.reshape(-1, a.shape[-1]).astype(np.float64), b.reshape(-1, b.shape[-1]).astype(np.float64)
    return float(((x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))).min())


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    core, version = openvino.Core(), openvino.__version__.split("-")[0]
    yield "# OpenVINO\n"
    yield (
        f"Written by `python benchmarks/experiments/openvino_speed.py`: {processor()}, one thread, OpenVINO "
        f"{version}, medians of {ROUNDS} runs, ms. *Cosine*: lowest of any residue, to float32. "
        "OpenVINO cannot load the operators of the 8-bit graphs.\n"
    )
    yield "| model | residues | ONNX Runtime | 8-bit graph | OpenVINO, float32 | bfloat16 | cosine |"
    yield "|---" * 7 + "|"
    for model in MODELS:
        exact, narrow = (Embedder(name, "cpu", threads=1)._session for name in (model, f"{model}-int8"))
        compiled = {
            precision: core.compile_model(
                core.read_model(without_strips(find_model(model).path)),
                "CPU",
                {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision},
            ).create_infer_request()
            for precision in PRECISIONS
        }
        for length in LENGTHS:
            feeds: dict[str, Any] = compact_chain(length)
            taken = [
                median_seconds(lambda s=session, f=feeds: s.run(OUTPUTS, f, keep_memory=True), ROUNDS)
                for session in (exact, narrow)
            ]
            taken += [median_seconds(lambda r=run, f=feeds: r.infer(f), ROUNDS) for run in compiled.values()]
            wanted = exact.run(["residue"], feeds)[0]
            found = compiled["bf16"].get_tensor("residue").data
            cells = [model, str(length), *(f"{1e3 * t:.1f}" for t in taken), f"{cosine(wanted, found):.5f}"]
            yield "| " + " | ".join(cells) + " |"


def main(out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")]) -> None:
    """Measure, and write the page."""
    text = "\n".join(page()) + "\n"
    out.write_text(text)
    print(text)


if __name__ == "__main__":
    typer.run(main)
