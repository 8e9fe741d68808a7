"""Writing the embedding graph of a network with a single representation.

Contract, version 2.0 (shapes: B chains of one common length L, C channels, R rows; n exchanges)

    in   ca_coords      float32 (B, L, 3)   angstrom; centre them first if they lie far from the origin
         residue_type   int64   (B, L)      positions in ACDEFGHIKLMNPQRSTVWYX
         residue_index  int64   (B, L)      increasing; a step above 1 is a gap
         rows           int64   (2,)        optional: first row and one past the last; all by default
         halo           int64   ()          optional: extra rows on either side; by default the card's radius
         means_0 to _n  float32 (B, L, 4 C + 1)   optional: complete means, required for some rows
         lengths        int64   (B,)        optional, in graphs for GPUs only: residues of each padded chain
    out  pair           float32 (B, C, R, L)
         residue        float32 (B, L, width of residue)
         protein        float32 (B, width of protein), of length 1
         profile        float32 (B, L, 20)  log probabilities of ACDEFGHIKLMNPQRSTVWY, without residue types
         strip_means_0 to _n  float32 (B, L, 4 C + 1)   contribution of the rows to means_0 to _n

A chain is computed in one run, or in strips of rows: first all strips for `strip_means_0`, whose sum is
`means_0`; with that given, all strips for `strip_means_1`; and so on. With all means given, `residue`,
`protein` and `profile` need only one row. The map of a strip is exact if the halo has at least the width in
`radii` of the card: `strip_means_k` requires radii[k], `pair` the last of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from protemb_export.integer_states import IntegerStatesNetwork
from protemb_export.states import PaddedStatesNetwork, StatesNetwork
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
from protemb_train.network.vectors import ChainVectors

LEVELS = ("residue", "protein", "profile")


def states_graph(
    network: ScoreNetwork,
    sigma: float,
    metadata: Mapping[str, str],
    vectors: ChainVectors,
    *,
    half: bool = False,
    padded: bool = False,
) -> onnx.ModelProto:
    """Return the embedding graph of a network at one noise level, contract version 2.0.

    Parameters
    ----------
    network : ScoreNetwork
        Network with a single representation, in eval mode.
    sigma : float
        Noise level in angstrom.
    metadata : mapping of str to str
        Written into the file.
    vectors : ChainVectors
        Contents of the residue and protein embeddings.
    half : bool, default False
        Whether the blocks compute in float16; inputs and outputs are the same.
    padded : bool, default False
        Whether the graph has the input `lengths`, with which a batch contains chains of different lengths.
    """
    module = (PaddedStatesNetwork if padded else StatesNetwork)(network, sigma, vectors, half=half)
    return _graph(module, network, metadata, vectors, padded)


def integer_graph(
    network: ScoreNetwork,
    sigma: float,
    metadata: Mapping[str, str],
    vectors: ChainVectors,
    chains: Iterable[tuple[Tensor, Tensor, Tensor]],
) -> onnx.ModelProto:
    """Return `states_graph` with the pair map in 8-bit integers, for ONNX Runtime on a CPU.

    `chains` are those of `IntegerStatesNetwork`, other parameters those of `states_graph`.
    """
    module = IntegerStatesNetwork(network, sigma, vectors, chains)
    return _graph(module, network, metadata, vectors, padded=False)


def _graph(
    module: StatesNetwork,
    network: ScoreNetwork,
    metadata: Mapping[str, str],
    vectors: ChainVectors,
    padded: bool,
) -> onnx.ModelProto:
    count, width = len(module.segments), 4 * network.config.channels + 1
    coords, types, index = example()
    used = tuple(torch.ones(*types.shape, width) * (k + 1) for k in range(count))
    lengths = (torch.tensor([9, types.shape[1]]),) if padded else ()
    strip = (torch.arange(3, 10), torch.tensor([5]), torch.tensor([8]))
    arguments = (coords, types, index, *lengths, *strip, *used)
    rows = {0: torch.export.Dim.DYNAMIC}
    model = to_onnx(
        module,
        arguments,
        ["ca_coords", "residue_type", "residue_index", *(["lengths_used"] if padded else [])]
        + ["row_list", "strip_first", "strip_past"]
        + [f"used_{k}" for k in range(count)],
        [f"map_{k}" for k in range(count)] + [f"strip_means_{k}" for k in range(count)] + list(LEVELS),
        # The means are passed as *used: one entry for all of them.
        (DYNAMIC, DYNAMIC, DYNAMIC, *([rows] if padded else []), rows, {}, {}, (DYNAMIC,) * count),
    )
    _add_strips(model, module, network, vectors, padded)
    if module.dtype == torch.float32:
        name_maps(model.graph)
    return finish(model, "protemb_embedding", metadata, CHAIN_AXES)


def _add_strips(
    model: onnx.ModelProto,
    module: StatesNetwork,
    network: ScoreNetwork,
    vectors: ChainVectors,
    padded: bool,
) -> None:
    """Compute the rows of a strip from `rows` and `halo`, and use the given means if present."""
    graph, channels, count = model.graph, network.config.channels, len(module.segments)
    width = 4 * channels + 1
    constant = Constants(graph)
    node = helper.make_node
    nodes = [node("Max", ["halo", constant("no_halo", 0)], ["halo_used"]), *row_nodes(constant, "halo_used")]
    flat, as_means = constant("as_flat_means", [-1, width]), constant("means_width", [width])
    constant("all_rows", [ALL_ROWS])
    nodes += [
        node("Unsqueeze", ["first", "axis_0"], ["strip_first"]),
        node("Unsqueeze", ["past", "axis_0"], ["strip_past"]),
        node("Shape", ["ca_coords"], ["batch_and_length"], start=0, end=2),
        node("Concat", ["batch_and_length", as_means], ["means_shape"], axis=0),
        node("ReduceProd", ["batch_and_length"], ["residues"], keepdims=1),
        node("Neg", ["residues"], ["last_residues"]),
    ]
    for k in range(count):
        # Given means are appended to those of the computed rows, and the last B L are used. With neither
        # all rows nor given means, residues outside have no weights: the results are NaN.
        nodes += [
            node("Reshape", [f"strip_means_{k}", flat], [f"own_flat_{k}"]),
            node("Reshape", [f"means_{k}", flat], [f"given_flat_{k}"], allowzero=0),
            node("Concat", [f"own_flat_{k}", f"given_flat_{k}"], [f"both_{k}"], axis=0),
            node("Slice", [f"both_{k}", "last_residues", "all_rows", "axis_0"], [f"taken_{k}"]),
            node("Reshape", [f"taken_{k}", "means_shape"], [f"used_{k}"]),
        ]
    if padded:
        nodes += [
            node("Min", ["lengths", "length_1"], ["lengths_within"]),
            node("Shape", ["ca_coords"], ["batch_1"], start=0, end=1),
            node("Expand", ["lengths_within", "batch_1"], ["lengths_used"]),
        ]
    axis = constant("axis_of_rows", [1 if isinstance(module, IntegerStatesNetwork) else 2])
    cut = [f"map_{count - 1}", "cut_first", "cut_past", axis]
    if isinstance(module, IntegerStatesNetwork):
        for name, value in zip(("scale", "zero"), module.grid_of(count - 1).constants, strict=True):
            graph.initializer.append(numpy_helper.from_array(value.numpy(), f"pair_{name}"))
        pair = [
            node("Slice", cut, ["rows_uint8"]),
            node("Transpose", ["rows_uint8"], ["rows_first"], perm=[0, 3, 1, 2]),
            node("DequantizeLinear", ["rows_first", "pair_scale", "pair_zero"], ["pair"]),
        ]
    elif module.dtype == torch.float16:
        pair = [node("Slice", cut, ["half"]), node("Cast", ["half"], ["pair"], to=TensorProto.FLOAT)]
    else:
        pair = [node("Slice", cut, ["pair"])]
    for part in graph.node:
        if part.op_type == "Shape" and part.input[0].startswith("used_"):
            part.input[0] = "ca_coords"  # same batch and length
    ordered = _in_order([*nodes, *pair, *graph.node], graph)
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(ordered)
    inputs = [value for value in graph.input if value.name in CHAIN_AXES]
    del graph.input[:]
    given = helper.make_tensor_value_info
    optional = [given("rows", TensorProto.INT64, [2]), given("halo", TensorProto.INT64, [])]
    optional += [
        given(f"means_{k}", TensorProto.FLOAT, [f"batch_{k}", f"length_{k}", width]) for k in range(count)
    ]
    if padded:
        optional.append(given("lengths", TensorProto.INT64, ["chains"]))
        constant("lengths", [ALL_ROWS])
    graph.input.extend([*inputs, *optional])
    # An input that is also an initializer has a default and is optional.
    constant("rows", [0, ALL_ROWS])
    constant("halo", network.radius)
    for k in range(count):
        empty = np.empty((0, 0, width), dtype=np.float32)
        graph.initializer.append(numpy_helper.from_array(empty, f"means_{k}"))
    outputs: dict[str, list[str | int]] = {
        "pair": ["batch", channels, "rows", "length"],
        "residue": ["batch", "length", vectors.residue_width],
        "protein": ["batch", vectors.protein_width],
        "profile": ["batch", "length", 20],
        **{f"strip_means_{k}": ["batch", "length", width] for k in range(count)},
    }
    graph.output.extend(given(name, TensorProto.FLOAT, axes) for name, axes in outputs.items())


def _in_order(nodes: list[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return nodes in topological order, otherwise in their original order."""
    made = {name for part in nodes for name in part.output}
    known = {"", *(t.name for t in graph.initializer), *(v.name for v in graph.input)} - made
    known |= {name for part in nodes for name in part.input} - made
    ordered, waiting = [], nodes
    while waiting:
        later = []
        for part in waiting:
            if all(name in known for name in part.input):
                known.update(part.output)
                ordered.append(part)
            else:
                later.append(part)
        assert len(later) < len(waiting)  # a graph has no cycle
        waiting = later
    return ordered
