"""Writing the two graphs: the embedding at a fixed noise level, and the score with the level as an input.

Contract, version 1 (shapes: B chains of one common length L, C channels, R rows)

    in   ca_coords      float32 (B, L, 3)   angstrom; centre them first if they lie far from the origin
         residue_type   int64   (B, L)      positions in ACDEFGHIKLMNPQRSTVWYX
         residue_index  int64   (B, L)      increasing; a step above 1 is a gap
         rows           int64   (2,)        optional: first row and one past the last; all by default
    out  pair           float32 (B, C, R, L)
         residue        float32 (B, R, C)   mean of pair over its last axis
         protein        float32 (B, C)      mean of residue over its rows

Rows of a map computed in strips equal those of the whole map: the graph computes as many additional rows
on either side as the receptive field requires, and removes them. A batch holds chains of one length because
padding would change every residue (tests/export/test_export.py measures it).

The score graph has the same first three inputs, `sigma` float32 (B,) in angstrom, and the output
`score` float32 (B, L, 3), the gradient of log p on the coordinates in 1/angstrom (eq. 3-4).
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import torch
from onnx import TensorProto, helper

from protemb_export.fold import EmbeddingNetwork
from protemb_export.writing import (
    ALL_ROWS,
    CHAIN_AXES,
    DYNAMIC,
    Constants,
    example,
    finish,
    name_maps,
    row_nodes,
    to_onnx,
)
from protemb_train.network.network import ScoreNetwork


def _add_rows(model: onnx.ModelProto, radius: int, channels: int, half: bool) -> None:
    """Replace the list of rows by a range with its halo, remove the halo, and add the pooled outputs."""
    graph = model.graph
    constant = Constants(graph)
    before = row_nodes(constant)
    constant("halo", radius)
    axis_1, axis_2, axis_3 = (constant(f"axis_{i}", [i]) for i in (1, 2, 3))
    node = helper.make_node
    if half:  # pooled before the cast doubles its size
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
    # An input that is also an initializer has a default and is optional.
    constant("rows", [0, ALL_ROWS])
    outputs: dict[str, list[str | int]] = {
        "pair": ["batch", channels, "rows", "length"],
        "residue": ["batch", "rows", channels],
        "protein": ["batch", channels],
    }
    for name, axes in outputs.items():
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, axes))


def embedding_graph(
    network: ScoreNetwork, sigma: float, metadata: Mapping[str, str], *, half: bool = False
) -> onnx.ModelProto:
    """Return the embedding graph of a network at one noise level, contract version 1.

    Parameters
    ----------
    network : ScoreNetwork
        In eval mode.
    sigma : float
        Noise level in angstrom; `paper` uses the nearest trained level.
    metadata : mapping of str to str
        Written into the file.
    half : bool, default False
        Whether the blocks compute in float16; inputs and outputs are the same.
    """
    rows = torch.arange(3, 10)
    shapes = (DYNAMIC, DYNAMIC, DYNAMIC, {0: torch.export.Dim.DYNAMIC})
    inputs = ["ca_coords", "residue_type", "residue_index", "row_list"]
    folded = EmbeddingNetwork(network, sigma, half=half)
    model = to_onnx(folded, (*example(), rows), inputs, ["map"], shapes)
    _add_rows(model, network.radius, network.config.channels, half)
    if not half:
        name_maps(model.graph)
    return finish(model, "protemb_embedding", metadata, CHAIN_AXES)


def score_graph(network: ScoreNetwork, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Return the score graph: the gradient of log p on the coordinates, with the noise level as an input.

    Parameters
    ----------
    network : ScoreNetwork
        Put into eval mode.
    metadata : mapping of str to str
        Written into the file.
    """
    arguments = (*example(), torch.tensor([0.1, 1.0]))
    shapes = (DYNAMIC, DYNAMIC, DYNAMIC, {0: torch.export.Dim.DYNAMIC})
    inputs = ["ca_coords", "residue_type", "residue_index", "sigma"]
    model = to_onnx(network.eval(), arguments, inputs, ["score"], shapes)
    axes = CHAIN_AXES | {"sigma": ["batch"], "score": ["batch", "length", 3]}
    return finish(model, "protemb_score", metadata, axes)
