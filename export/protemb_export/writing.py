"""Functions shared by all graphs: tracing a module, rows and their halo, names of axes, metadata."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 20
ALL_ROWS = 2**40

DYNAMIC = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}


def example(length: int = 12, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Return coordinates, types and indices for tracing; the graph contains none of them."""
    coords = torch.linspace(-9.0, 9.0, batch * length * 3).reshape(batch, length, 3)
    types = torch.arange(batch * length).reshape(batch, length) % 21
    return coords, types, torch.arange(length).expand(batch, length).contiguous()


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Suppress messages of torch's exporter."""
    talk = logging.getLogger("torch.onnx._internal.exporter._registration")  # "torchvision is not installed"
    level = talk.level
    talk.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\)")
            yield
    finally:
        talk.setLevel(level)


def to_onnx(
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    shapes: tuple[Any, ...],
) -> onnx.ModelProto:
    """Export a module with torch's exporter, without its messages."""
    with tempfile.TemporaryDirectory() as folder, _quiet_exporter():
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module,
            arguments,
            path,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            external_data=False,
            optimize=True,
            verbose=False,
        )
        return onnx.load(path)


class Constants:
    """Adds integers to a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph

    def __call__(self, name: str, values: list[int] | int) -> str:
        """Add a constant and return its name."""
        self._graph.initializer.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name


def row_nodes(constant: Constants, halo: str = "halo") -> list[onnx.NodeProto]:
    """Return nodes that turn `rows` and `halo` into `row_list`, and the limits of the rows in it.

    They name `zero`, `one`, `axis_0`, `first` and `past` (the rows, within the chain), `cut_first` and
    `cut_past` (the same within `row_list`).
    """
    zero, one, axis_0 = constant("zero", 0), constant("one", 1), constant("axis_0", [0])
    node = helper.make_node
    return [
        node("Shape", ["ca_coords"], ["length_1"], start=1, end=2),
        node("Squeeze", ["length_1", axis_0], ["length_0"]),
        node("Gather", ["rows", zero], ["row_first"]),
        node("Gather", ["rows", one], ["row_past"]),
        node("Max", ["row_first", zero], ["first"]),
        node("Min", ["row_past", "length_0"], ["past"]),
        node("Sub", ["first", halo], ["first_halo"]),
        node("Max", ["first_halo", zero], ["first_read"]),
        node("Add", ["past", halo], ["past_halo"]),
        node("Min", ["past_halo", "length_0"], ["past_read"]),
        node("Range", ["first_read", "past_read", one], ["row_list"]),
        node("Sub", ["first", "first_read"], ["cut_first_0"]),
        node("Sub", ["past", "first_read"], ["cut_past_0"]),
        node("Unsqueeze", ["cut_first_0", axis_0], ["cut_first"]),
        node("Unsqueeze", ["cut_past_0", axis_0], ["cut_past"]),
    ]


def _name_axes(value: onnx.ValueInfoProto, axes: list[str | int]) -> None:
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for axis in axes:
        shape.dim.add(**({"dim_param": axis} if isinstance(axis, str) else {"dim_value": axis}))


def name_maps(graph: onnx.GraphProto) -> None:
    """Declare that all maps have the same numbers of rows and columns.

    ONNX Runtime does not infer this across a dilated convolution, and adds two maps within a convolution
    only if their shapes are known to be equal.
    """
    filters = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 4}
    channels: dict[str, int] = {}
    for part in graph.node:
        if part.op_type == "Conv":
            channels[part.output[0]] = filters[part.input[1]]
        elif part.op_type in ("Relu", "Add") and part.input[0] in channels:
            channels[part.output[0]] = channels[part.input[0]]
    for name, count in channels.items():
        axes: list[str | int] = ["batch", count, "rows_read", "length"]
        graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, axes))


CHAIN_AXES: dict[str, list[str | int]] = {
    "ca_coords": ["batch", "length", 3],
    "residue_type": ["batch", "length"],
    "residue_index": ["batch", "length"],
}


def finish(
    model: onnx.ModelProto, name: str, metadata: Mapping[str, str], axes: Mapping[str, list[str | int]]
) -> onnx.ModelProto:
    """Name the axes, remove details of the exporting machine, check, and write the metadata."""
    for value in [*model.graph.input, *model.graph.output]:
        if value.name in axes:
            _name_axes(value, axes[value.name])
    model.graph.name = name
    model.producer_name = "protemb"
    for part in model.graph.node:
        # Exporter traces: stack frames of the machine that exported.
        del part.metadata_props[:]
        part.doc_string = ""
    del model.metadata_props[:], model.graph.metadata_props[:]
    for tensor in [
        *model.graph.initializer,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
    ]:
        del tensor.metadata_props[:]
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model
