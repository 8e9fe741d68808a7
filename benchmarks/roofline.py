"""Roofline of the exported graph: limits of the machine, requirements of each kernel, and measured times.

    python benchmarks/roofline.py -o benchmarks/roofline.md

The time of a kernel is at least that of its products at the rate of a matrix product, and that of its maps
and weights at the rate of a copy; the sum over the kernels of ONNX Runtime's optimised graph is the floor.
Shapes and bytes are from ONNX Runtime's profile. One thread is used.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import Machine, compact_coords, median_seconds, one_thread, processor
from protemb_sdk import Embedder, read_chain
from protemb_sdk._model.batches import feeds_of
from protemb_sdk._model.models import find_model
from protemb_sdk._model.subgraph import Parts

ROUNDS = 9
OUTPUTS = ["residue", "protein"]

STEM = "features and stem"
CONVOLUTIONS = {1: "1x1 convolutions", 3: "3x3 convolutions"}
REST = "layout, sums, rectifiers, pooling"
STATES = "states and messages of residues"


@dataclass
class Kernel:
    """One kernel of the graph optimised by ONNX Runtime."""

    kind: str
    operator: str
    products: int
    moved: int
    seconds: float

    def floor(self, machine: Machine) -> float:
        """Return the minimum time in seconds."""
        rate = machine.integer_products if self.operator == "QLinearConv" else machine.products
        return max(self.products / rate, self.moved / machine.copied)


def floor_of(kernels: list[Kernel], machine: Machine) -> float:
    """Return the minimum time of several kernels in seconds."""
    return sum(kernel.floor(machine) for kernel in kernels)


def shape_of(value: dict[str, list[int]]) -> list[int]:
    """Return the shape from a profile's {type: shape}."""
    return next(iter(value.values()))


def products_of(operator: str, arguments: dict[str, Any], filters: list[int]) -> tuple[int, int]:
    """Return multiplications and additions of a kernel, and the width of its filter (0: not a convolution).

    `filters` is the filter shape of a convolution in integers, which a profile does not include.
    """
    inputs = [shape_of(value) for value in arguments["input_type_shape"]]
    out = shape_of(arguments["output_type_shape"][0])
    if "Conv" in operator:
        filters = next((shape for shape in inputs[1:] if len(shape) == 4), filters)
        if filters[1] == 1:  # the identity convolution, which needs no products
            return 0, 0
        return 2 * int(np.prod(out)) * int(np.prod(filters[1:])), filters[2]
    if operator in ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulInteger"):
        return 2 * int(np.prod(out)) * inputs[0][-1], 0
    return 0, 0


def profiled(content: bytes, feeds: dict[str, Any]) -> list[Kernel]:
    """Run a graph under ONNX Runtime's profiler, and return its kernels in order, with median seconds."""
    options = one_thread()
    options.enable_profiling = True
    options.enable_mem_pattern = False
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for _ in range(ROUNDS + 1):
            session.run(OUTPUTS, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    seconds: dict[str, list[float]] = defaultdict(list)
    arguments: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            seconds[event["name"]].append(event["dur"] / 1e6)
            arguments[event["name"]] = event["args"]
    length = feeds["residue_type"].shape[1]
    return list(classified(seconds, arguments, integer_filters(content), length))


def integer_filters(content: bytes) -> Iterator[list[int]]:
    """Yield the filter shapes of convolutions in integers, in order."""
    graph = onnx.load_from_string(content).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "QLinearConv":
            yield shapes[node.input[3]]


def classified(
    seconds: dict[str, list[float]],
    arguments: dict[str, dict[str, Any]],
    filters: Iterator[list[int]],
    length: int,
) -> Iterator[Kernel]:
    """Yield kernels in order; the stem ends at the second convolution.

    A kernel without a tensor that has two axes of the length of the chain belongs to the states.
    """
    in_stem = True
    convolutions = 0  # with products; the first belongs to the stem
    for name, taken in seconds.items():
        about = arguments[name]
        operator = about["op_name"]
        products, width = products_of(operator, about, next(filters) if operator == "QLinearConv" else [])
        convolutions += bool(width)
        in_stem = in_stem and convolutions < 2
        tensors = [*about["input_type_shape"], *about["output_type_shape"]]
        if width and not in_stem:
            kind = CONVOLUTIONS[width]
        elif all(shape_of(tensor).count(length) < 2 for tensor in tensors):
            kind = STATES
        else:
            kind = STEM if in_stem else REST
        moved = sum(int(about[size]) for size in ("activation_size", "parameter_size", "output_size"))
        yield Kernel(kind, operator, products, moved, statistics.median(taken[1:]))


def compact_chain(length: int) -> dict[str, Any]:
    """Return a compact random walk as input of the graph."""
    return feeds_of(read_chain((compact_coords(length), ("ACDEFGHIKLMNPQRSTVWY" * length)[:length])))


def of_model(model: str, lengths: list[int], machine: Machine) -> Iterator[str]:
    """Yield the lines of one model."""
    session = Embedder(model, "cpu", threads=1)._session
    content = Parts(find_model(model).path.read_bytes()).of(list(compact_chain(8)), OUTPUTS)
    yield f"\n## {model}\n"
    yield (
        "| residues | operations per pair | bytes per pair | floor, ms | network, ms | floor / network | "
        "GFLOP/s | of ONNX Runtime's matrix product | of NumPy's |"
    )
    yield "|---" * 9 + "|"
    found: dict[int, list[Kernel]] = {}
    for length in lengths:
        feeds = compact_chain(length)
        kernels = found[length] = profiled(content, feeds)

        def run(feeds: dict[str, Any] = feeds) -> object:
            return session.run(OUTPUTS, feeds, keep_memory=True)

        floor, taken = floor_of(kernels, machine), median_seconds(run, ROUNDS)
        products, moved = (sum(getattr(k, name) for k in kernels) for name in ("products", "moved"))
        rate = products / taken
        cells = [
            *(length, f"{products / length**2:,.0f}", f"{moved / length**2:,.0f}", f"{floor * 1e3:.1f}"),
            *(f"{taken * 1e3:.1f}", f"{floor / taken:.2f}", f"{rate / 1e9:.0f}"),
            *(f"{rate / machine.float_products:.2f}", f"{rate / machine.numpy_products:.2f}"),
        ]
        yield "| " + " | ".join(map(str, cells)) + " |"
    yield "\nBy kernel, under the profiler:\n"
    yield "| kernel | " + " | ".join(f"{n}: ms | floor | GFLOP/s | GB/s" for n in lengths) + " |"
    yield "|---" * (1 + 4 * len(lengths)) + "|"
    for kind in (STEM, *CONVOLUTIONS.values(), REST, STATES):
        cells = [kind]
        for length in lengths:
            kernels = [k for k in found[length] if k.kind == kind]
            taken = sum(k.seconds for k in kernels)
            cells += [f"{taken * 1e3:.1f}", f"{floor_of(kernels, machine) * 1e3:.1f}"]
            cells += [f"{sum(k.products for k in kernels) / taken / 1e9:.0f}"]
            cells += [f"{sum(k.moved for k in kernels) / taken / 1e9:.1f}"]
        yield "| " + " | ".join(cells) + " |"


def page(models: list[str], lengths: list[int]) -> Iterator[str]:
    """Yield the lines of the page."""
    machine = Machine.measured()
    yield "# Roofline\n"
    yield (
        f"Written by `python benchmarks/roofline.py`: {processor()}, one thread, ONNX Runtime "
        f"{onnxruntime.__version__}, medians of {ROUNDS} runs. {machine}"
    )
    yield (
        "\nThe floor of a kernel is the longer of the time of its products at the higher rate (for integers "
        "theirs) and that of its bytes at the rate of the copy; a product counts as two operations. A floor "
        "may exceed the measured time if the maps fit into a cache."
    )
    for model in models:
        yield from of_model(model, lengths, machine)


def main(
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")],
    model: Annotated[list[str] | None, typer.Option(help="Bundled model or file.")] = None,
    length: Annotated[list[int] | None, typer.Option(help="Residues.")] = None,
) -> None:
    """Measure, and write the page."""
    models = model or ["base", "base-int8", "small", "small-int8"]
    text = "\n".join(page(models, length or [128, 256, 512])) + "\n"
    out.write_text(text)
    print(text)


if __name__ == "__main__":
    typer.run(main)
