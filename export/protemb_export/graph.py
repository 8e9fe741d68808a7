"""Writing the two graphs: the embedding at a fixed noise level, and the score with the level as an input.

Contract, version 1 (shapes: B chains of one common length L, C channels, R rows)

    in   ca_coords      float32 (B, L, 3)   angstrom; centre them first if they lie far from the origin
         residue_type   int64   (B, L)      positions in ACDEFGHIKLMNPQRSTVWYX
         residue_index  int64   (B, L)      increasing; a step above 1 is a gap
         rows           int64   (2,)        optional: first row and the one past the last; all by default
    out  pair           float32 (B, C, R, L)
         residue        float32 (B, R, C)   mean of pair over its last axis
         protein        float32 (B, C)      mean of residue over its rows

The rows of a map computed in strips equal those of the whole map: the graph itself computes as many
more rows on either side as the receptive field reaches, and cuts them off. A batch holds chains of one
length because padding would leak into every residue (tests/export/test_export.py measures it).

The score graph has the same first three inputs, `sigma` float32 (B,) in angstrom, and the output
`score` float32 (B, L, 3), the gradient of log p on the coordinates in 1/angstrom (eq. 3-4).
"""

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

from protemb_export.fold import EmbeddingNetwork
from protemb_train.network.network import ScoreNetwork

OPSET = 20
ALL_ROWS = 2**40

_DYNAMIC = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}


def _example(length: int = 12, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Return coordinates, types and indices to trace with; nothing of them stays in the graph."""
    coords = torch.linspace(-9.0, 9.0, batch * length * 3).reshape(batch, length, 3)
    types = torch.arange(batch * length).reshape(batch, length) % 21
    return coords, types, torch.arange(length).expand(batch, length).contiguous()


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hold back what torch's exporter has to say to its own developers."""
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
    shapes: tuple[dict[int, Any], ...],
) -> onnx.ModelProto:
    """Return what torch's exporter makes of a module, without a word of its own."""
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


def _name_axes(value: onnx.ValueInfoProto, axes: list[str | int]) -> None:
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for axis in axes:
        shape.dim.add(**({"dim_param": axis} if isinstance(axis, str) else {"dim_value": axis}))


def _add_rows(model: onnx.ModelProto, radius: int, channels: int, half: bool) -> None:
    """Replace the list of rows by a range with its halo, cut the halo off, and add the pooled outputs."""
    graph = model.graph

    def constant(name: str, values: list[int] | int) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name

    zero, one, halo = constant("zero", 0), constant("one", 1), constant("halo", radius)
    axis_0, axis_1, axis_2, axis_3 = (constant(f"axis_{i}", [i]) for i in range(4))
    node = helper.make_node
    before = [
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
    ]
    if half:  # pooled before it grows to twice the bytes
        cut = [
            node("Slice", ["map", "cut_first", "cut_past", axis_2], ["half"]),
            node("Cast", ["half"], ["pair"], to=TensorProto.FLOAT),
            node("ReduceMean", ["half", axis_3], ["half_mean"], keepdims=0),
            node("Cast", ["half_mean"], ["row_mean"], to=TensorProto.FLOAT),
        ]
    else:
        cut = [
            node("Slice", ["map", "cut_first", "cut_past", axis_2], ["pair"]),
            node("ReduceMean", ["pair", axis_3], ["row_mean"], keepdims=0),
        ]
    after = [
        node("Sub", ["first", "first_read"], ["cut_first_0"]),
        node("Sub", ["past", "first_read"], ["cut_past_0"]),
        node("Unsqueeze", ["cut_first_0", axis_0], ["cut_first"]),
        node("Unsqueeze", ["cut_past_0", axis_0], ["cut_past"]),
        *cut,
        node("Transpose", ["row_mean"], ["residue"], perm=[0, 2, 1]),
        node("ReduceMean", ["residue", axis_1], ["protein"], keepdims=0),
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    inputs = [value for value in graph.input if value.name != "row_list"]
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.extend([*inputs, helper.make_tensor_value_info("rows", TensorProto.INT64, [2])])
    # An input that is also an initializer has a default: callers may leave it out.
    constant("rows", [0, ALL_ROWS])
    outputs: dict[str, list[str | int]] = {
        "pair": ["batch", channels, "rows", "length"],
        "residue": ["batch", "rows", channels],
        "protein": ["batch", channels],
    }
    for name, axes in outputs.items():
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, axes))


def _name_maps(graph: onnx.GraphProto) -> None:
    """Say of every map that it has as many rows and columns as the others.

    ONNX Runtime does not work it out across a dilated convolution, and adds two maps within a convolution
    only if it knows that they are alike.
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


_CHAIN_AXES: dict[str, list[str | int]] = {
    "ca_coords": ["batch", "length", 3],
    "residue_type": ["batch", "length"],
    "residue_index": ["batch", "length"],
}


def finish(
    model: onnx.ModelProto, name: str, metadata: Mapping[str, str], axes: Mapping[str, list[str | int]]
) -> onnx.ModelProto:
    """Name the axes, take out what tells of the exporting machine, check, and write the metadata."""
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


def embedding_graph(
    network: ScoreNetwork, sigma: float, metadata: Mapping[str, str], *, half: bool = False
) -> onnx.ModelProto:
    """Return the embedding graph of a network at one noise level, contract version 1.

    Parameters
    ----------
    network : ScoreNetwork
        In eval mode.
    sigma : float
        Noise level in angstrom; `paper` uses the trained level nearest to it.
    metadata : mapping of str to str
        Written into the file.
    half : bool, default False
        Whether the blocks compute in float16; inputs and outputs are the same.
    """
    rows = torch.arange(3, 10)
    shapes = (_DYNAMIC, _DYNAMIC, _DYNAMIC, {0: torch.export.Dim.DYNAMIC})
    inputs = ["ca_coords", "residue_type", "residue_index", "row_list"]
    folded = EmbeddingNetwork(network, sigma, half=half)
    model = to_onnx(folded, (*_example(), rows), inputs, ["map"], shapes)
    _add_rows(model, network.radius, network.config.channels, half)
    if not half:
        _name_maps(model.graph)
    return finish(model, "protemb_embedding", metadata, _CHAIN_AXES)


def score_graph(network: ScoreNetwork, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Return the score graph: the gradient of log p on the coordinates, the noise level an input.

    Parameters
    ----------
    network : ScoreNetwork
        Put into eval mode.
    metadata : mapping of str to str
        Written into the file.
    """
    arguments = (*_example(), torch.tensor([0.1, 1.0]))
    shapes = (_DYNAMIC, _DYNAMIC, _DYNAMIC, {0: torch.export.Dim.DYNAMIC})
    inputs = ["ca_coords", "residue_type", "residue_index", "sigma"]
    model = to_onnx(network.eval(), arguments, inputs, ["score"], shapes)
    axes = _CHAIN_AXES | {"sigma": ["batch"], "score": ["batch", "length", 3]}
    return finish(model, "protemb_score", metadata, axes)
