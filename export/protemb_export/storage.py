"""Storage of weights in an ONNX file: as float16 where float16 holds them exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LEAST = 4096
"""Number of values from which a matrix of weights is stored as float16."""
STORED = ".float16"
"""Ending of the names of such weights; the graph casts them to float32."""


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph, with weights in float16 if their values do not change by it.

    ONNX Runtime casts them to float32 once, when it loads the graph.

    Parameters
    ----------
    model : ModelProto
        Graph; not changed.
    path : Path
        File to write.
    """
    narrow = onnx.ModelProto()
    narrow.CopyFrom(model)
    graph, casts = narrow.graph, []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < LEAST:
            continue
        values = numpy_helper.to_array(weight)
        if (half := as_half(values)) is not None:
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(half, name + STORED))
            casts.append(helper.make_node("Cast", [name + STORED], [name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    onnx.save(narrow, path)


def as_half(values: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """Return the values as float16, or None if float16 cannot hold one of them exactly."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else None


def load_graph(path: Path) -> onnx.ModelProto:
    """Read a graph of `save_graph` as it was before: all weights in float32."""
    model = onnx.load(path)
    graph = model.graph
    for weight in graph.initializer:
        if weight.name.endswith(STORED):
            wide = numpy_helper.to_array(weight).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(wide, weight.name.removesuffix(STORED)))
    nodes = [node for node in graph.node if not (node.op_type == "Cast" and node.input[0].endswith(STORED))]
    del graph.node[:]
    graph.node.extend(nodes)
    return model
