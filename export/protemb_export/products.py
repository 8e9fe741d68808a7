"""An embedding graph whose convolutions are matrix products, for GPUs.

ONNX Runtime sets up each cuDNN convolution again whenever the length of the chain changes, which takes
longer than the chain itself (benchmarks/cuda.md; microsoft/onnxruntime issue 23006).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from protemb_export.errors import ExportError

node = helper.make_node


def as_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an equivalent graph without convolutions; inputs, outputs and metadata are unchanged.

    A 1x1 convolution is a product of its filters (O, C) with a map (B, C, R L). For a 3x3 convolution the map
    is padded, the neighbours of each pixel are gathered into (B, 9 C, R L), and the filters are (O, 9 C).
    GatherND along one axis becomes Gather: on CUDA it copies sizes from the host, which a CUDA graph reads
    again when they are gone (microsoft/onnxruntime pull request 32120).

    Parameters
    ----------
    model : ModelProto
        Graph of `embedding_graph`, in float32 or float16.

    Raises
    ------
    ExportError
        If a convolution changes the size of its map, or has groups of more than one channel.
    """
    result = copy.deepcopy(model)
    graph = result.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made: dict[str, NDArray[np.generic]] = {}
    indices: dict[tuple[int, int], str] = {}
    shapes: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for part in graph.node:
        if part.op_type == "Conv":
            nodes.extend(_product(part, weights, made, indices, shapes))
        else:
            nodes.append(part)
    _drop_identities(nodes)
    _simple_gathers(nodes, weights)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    needed = {name for part in nodes for name in part.input} | {value.name for value in graph.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in needed and tensor.name not in made]
    del graph.initializer[:]
    graph.initializer.extend(
        [*kept, *(numpy_helper.from_array(values, name) for name, values in made.items() if name in needed)]
    )
    onnx.checker.check_model(result, full_check=True)
    return result


def _drop_identities(nodes: list[onnx.NodeProto]) -> None:
    """Remove identity nodes, and connect their consumers to their inputs."""
    same = {part.output[0]: part.input[0] for part in nodes if part.op_type == "Identity"}
    nodes[:] = [part for part in nodes if part.op_type != "Identity"]
    for part in nodes:
        for place, name in enumerate(part.input):
            while name in same:
                name = same[name]
            part.input[place] = name


def _simple_gathers(nodes: list[onnx.NodeProto], weights: Mapping[str, NDArray[np.generic]]) -> None:
    """Replace GatherND by Gather where its indices have one number each."""
    single = {
        part.output[0]: part.input[0]
        for part in nodes
        if part.op_type == "Unsqueeze" and np.array_equal(weights.get(part.input[1], 0), [-1])
    }
    for place, part in enumerate(nodes):
        of_batch = any(a.name == "batch_dims" and a.i for a in part.attribute)
        if part.op_type == "GatherND" and part.input[1] in single and not of_batch:
            nodes[place] = node("Gather", [part.input[0], single[part.input[1]]], part.output, axis=0)
    used = {name for part in nodes for name in part.input}
    nodes[:] = [part for part in nodes if part.output[0] not in single or part.output[0] in used]


def _product(
    part: onnx.NodeProto,
    weights: Mapping[str, NDArray[np.generic]],
    made: dict[str, NDArray[np.generic]],
    indices: dict[tuple[int, int], str],
    shapes: set[str],
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that replace a convolution, and add their constants to `made`."""
    about = {a.name: helper.get_attribute_value(a) for a in part.attribute}
    source, out, name = part.input[0], part.output[0], part.input[1]
    filters = weights[name]
    width, reach = filters.shape[2], about["pads"][0]
    step = about["dilations"][0]
    if about["group"] == len(filters) and (filters == 1).all() and filters[0].size == 1:
        yield node("Identity", [source], [out])  # the CPU layout convolution of fold.FoldedBaseStem
        return
    if (
        about["group"] != 1
        or filters.shape[2] != filters.shape[3]
        or set(about["pads"]) != {step * (width // 2)}
        or set(about["strides"]) != {1}
        or set(about["dilations"]) != {step}
    ):
        raise ExportError(f"the convolution {out} cannot be written as a product")

    def constant(name: str, values: NDArray[np.generic]) -> str:
        made[name] = values
        return name

    count = len(filters)
    flat = constant("as_flat", np.array([0, 0, -1]))
    if width == 1:
        read = f"{out}_read"
        yield node("Reshape", [source, flat], [read])
    else:
        if (width, step) not in indices:
            indices[width, step] = yield from _neighbours(source, width, step, constant)
        pads = constant(f"pads_{reach}", np.array([0, 0, reach, reach] * 2))
        yield node("Pad", [source, pads], [f"{out}_padded"])
        yield node("Reshape", [f"{out}_padded", flat], [f"{out}_line"])
        yield node("Gather", [f"{out}_line", indices[width, step]], [f"{out}_near"], axis=2)
        read = f"{out}_read"
        rows = constant(f"as_rows_{filters[0].size}", np.array([0, filters[0].size, -1]))
        yield node("Reshape", [f"{out}_near", rows], [read])
    yield node("MatMul", [constant(f"{name}_flat", filters.reshape(count, -1)), read], [f"{out}_product"])
    result = f"{out}_product"
    if len(part.input) > 2:
        bias = constant(f"{part.input[2]}_column", weights[part.input[2]][:, None])
        result = f"{out}_sum"
        yield node("Add", [f"{out}_product", bias], [result])
    if (shape := f"map_{count}") not in shapes:
        shapes.add(shape)
        yield node("Shape", [source], [f"{shape}_rows"], start=2, end=4)
        front = constant(f"{shape}_front", np.array([0, count]))
        yield node("Concat", [front, f"{shape}_rows"], [shape], axis=0)
    yield node("Reshape", [result, shape], [out])


def _neighbours(
    source: str, width: int, step: int, constant: Callable[[str, NDArray[np.generic]], str]
) -> Generator[onnx.NodeProto, None, str]:
    """Yield nodes that compute the positions of each pixel's neighbours in the flattened padded map."""
    key = f"near_{width}_{step}"
    reach = step * (width // 2)

    def number(name: str, values: object) -> str:
        return constant(f"{key}_{name}", np.array(values, dtype=np.int32))

    zero, one, margin = number("zero", 0), number("one", 1), number("margin", 2 * reach)
    places = np.arange(width) * step
    down = number("places_down", places[:, None, None])
    across = number("places_across", places[None, :, None])
    column = constant("as_column", np.array([-1, 1]))
    shape = constant(f"{key}_shape", np.array([width**2, -1]))
    for axis, name in ((2, "rows"), (3, "columns")):
        yield node("Shape", [source], [f"{key}_{name}_64"], start=axis, end=axis + 1)
        yield node("Squeeze", [f"{key}_{name}_64"], [f"{key}_{name}_0"])
        yield node("Cast", [f"{key}_{name}_0"], [f"{key}_{name}"], to=onnx.TensorProto.INT32)
        yield node("Range", [zero, f"{key}_{name}", one], [f"{key}_{name}_each"])
    yield node("Add", [f"{key}_columns", margin], [f"{key}_width"])
    yield node("Mul", [f"{key}_rows_each", f"{key}_width"], [f"{key}_starts_0"])
    yield node("Reshape", [f"{key}_starts_0", column], [f"{key}_starts"])
    yield node("Add", [f"{key}_starts", f"{key}_columns_each"], [f"{key}_pixels_0"])
    yield node("Reshape", [f"{key}_pixels_0", constant("as_line", np.array([-1]))], [f"{key}_pixels"])
    yield node("Mul", [down, f"{key}_width"], [f"{key}_down"])
    yield node("Add", [f"{key}_down", across], [f"{key}_offsets"])
    yield node("Add", [f"{key}_offsets", f"{key}_pixels"], [f"{key}_all"])
    yield node("Reshape", [f"{key}_all", shape], [key])
    return key
