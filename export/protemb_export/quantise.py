"""Quantisation of the blocks of an embedding graph to 8-bit integers, calibrated on real chains.

Weights are int8 with one scale per output channel; maps are uint8 with one scale per map, from its smallest
to its largest value on the chains. A ReLU is free: its map starts at zero, where integers saturate.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from protemb_export.errors import ExportError

RUNTIME = "com.microsoft"
"""Operators of ONNX Runtime. The standard ones do not support channels last: each map would be transposed."""
STEPS = 255
REFUSAL = "only graphs of float32 networks of the family base can be quantised"


class Int8Blocks:
    """Rewrites the blocks of a float32 graph of `embedding_graph`, family `base`.

    Parameters
    ----------
    model : ModelProto
        Graph; it is copied.

    Raises
    ------
    ExportError
        If its blocks are not those of `base`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = copy.deepcopy(model)
        graph = self.model.graph
        self.weights = {t.name: t for t in graph.initializer}
        # Computation in integers begins with the map in front of the first block, and with the terms added by
        # an exchange, which pass an identity convolution (fold.FoldedBaseStem, states.FoldedWrite).
        self.starts: dict[str, str] = {}  # quantised map, and the float32 map in front of its ReLU, if any
        self.blocks: list[onnx.NodeProto] = []
        inside: set[str] = set()
        # By the result of a convolution outside: that result, or of an identity convolution its source.
        convolved: dict[str, str] = {}
        rectified = {node.input[0] for node in graph.node if node.op_type == "Relu"}
        for node in graph.node:
            maps = [name for name in node.input if name not in self.weights]
            source, out = node.input[0] if node.input else "", node.output[0]
            if node.op_type in ("Conv", "Relu", "Add") and set(maps) <= inside and maps:
                self.blocks.append(node)
                inside.update(node.output)
            elif node.op_type == "Conv" and node.input[1] in self.weights:
                identity = self._filter(node).shape[1] == 1
                if identity and out not in rectified:
                    self.starts[out] = source
                    inside.add(out)
                else:
                    convolved[out] = source if identity else out
            elif node.op_type == "Relu" and source in convolved:
                self.starts[out] = convolved[source]
                inside.add(out)
        self.dropped = {out for out, wide in convolved.items() if wide != out}
        if {node.op_type for node in self.blocks} != {"Conv", "Relu", "Add"}:
            raise ExportError(REFUSAL)

    def _filter(self, node: onnx.NodeProto) -> NDArray[np.float32]:
        return numpy_helper.to_array(self.weights[node.input[1]])

    @property
    def maps(self) -> list[str]:
        """Names of the maps stored as integers, in order."""
        return [*self.starts, *(names for _, names in self._steps())]

    def _steps(self) -> Iterator[tuple[onnx.NodeProto, str]]:
        """Yield each convolution and sum, and the name of its result, after the ReLU if one follows."""
        rectified = {node.input[0]: node.output[0] for node in self.blocks if node.op_type == "Relu"}
        for node in self.blocks:
            if node.op_type != "Relu":
                yield node, rectified.get(node.output[0], node.output[0])

    def ranges(self, feeds: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, tuple[float, float]]:
        """Return the smallest and the largest value of every map on the given chains."""
        observed = copy.deepcopy(self.model)
        observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self.maps)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            observed.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found = {name: (np.inf, -np.inf) for name in self.maps}
        for feed in feeds:
            for name, values in zip(found, session.run(self.maps, dict(feed)), strict=True):
                low, high = found[name]
                found[name] = min(low, float(values.min())), max(high, float(values.max()))
        if not np.isfinite(list(found.values())).all():
            raise ExportError("no chain to calibrate on, or maps that are not finite")
        return found

    def quantised(self, ranges: Mapping[str, tuple[float, float]]) -> onnx.ModelProto:
        """Return the graph with blocks in integers; inputs, outputs and metadata are unchanged.

        Parameters
        ----------
        ranges : mapping
            Result of `ranges`.
        """
        made: list[onnx.TensorProto] = []
        scales: dict[str, np.float32] = {}

        def constant(name: str, values: NDArray[Any]) -> str:
            made.append(numpy_helper.from_array(values, name))
            return name

        def grid(name: str) -> list[str]:
            """Return the names of scale and zero point of a map, created on first use."""
            if name not in scales:
                low, high = min(ranges[name][0], 0.0), max(ranges[name][1], 1e-6)
                scales[name] = np.float32((high - low) / STEPS)
                constant(f"{name}_scale", np.array(scales[name]))
                constant(f"{name}_zero", np.array(round(-low / scales[name]), dtype=np.uint8))
            return [f"{name}_scale", f"{name}_zero"]

        def convolution(node: onnx.NodeProto, out: str) -> onnx.NodeProto:
            source, name = node.input[0], node.input[1]
            filters = self._filter(node)
            bias = np.zeros(len(filters), dtype=np.float32)  # omitted for an untrained network
            if len(node.input) > 2:
                bias = numpy_helper.to_array(self.weights[node.input[2]])
            widest = np.abs(filters).reshape(len(filters), -1).max(axis=1)
            scale = np.maximum(widest / 127, 1e-12).astype(np.float32)
            grids = grid(source), grid(out)
            whole = np.rint(filters / scale[:, None, None, None]).astype(np.int8)
            inputs = [
                *(source, *grids[0]),
                constant(f"{name}_int8", whole),
                constant(f"{name}_scale", scale),
                constant(f"{name}_zero", np.zeros(len(filters), dtype=np.int8)),
                *grids[1],
                constant(f"{name}_bias", np.rint(bias / (scale * scales[source])).astype(np.int32)),
            ]
            found = helper.make_node("QLinearConv", inputs, [out], domain=RUNTIME, channels_last=1)
            found.attribute.extend(node.attribute)
            return found

        node = helper.make_node
        steps = {part.output[0]: out for part, out in self._steps()}
        inside = {name for part in self.blocks for name in part.output} | set(self.starts)
        blocks: list[onnx.NodeProto] = []
        floats: set[str] = set()

        def as_float(name: str) -> str:
            """Return the name of a map in float32 with channels first, created on first use."""
            if name not in floats:
                floats.add(name)
                blocks.append(node("Transpose", [name], [f"{name}_first"], perm=[0, 3, 1, 2]))
                blocks.append(node("DequantizeLinear", [f"{name}_first", *grid(name)], [f"{name}_float"]))
            return f"{name}_float"

        for part in self.model.graph.node:
            out = part.output[0]
            if out in self.dropped:
                continue
            if out in self.starts:
                blocks.append(node("QuantizeLinear", [self.starts[out], *grid(out)], [f"{out}_uint8"]))
                blocks.append(node("Transpose", [f"{out}_uint8"], [out], perm=[0, 2, 3, 1]))
            elif out in steps and part.op_type == "Conv":
                blocks.append(convolution(part, steps[out]))
            elif out in steps:
                sides = [name for side in part.input for name in (side, *grid(side))]
                blocks.append(node("QLinearAdd", [*sides, *grid(steps[out])], [steps[out]], domain=RUNTIME))
            elif out in inside:
                pass  # a ReLU, part of the step before it
            elif (
                part.op_type == "Slice" and part.input[0] == "map"
            ):  # sliced before the cast makes it four times larger
                blocks += [
                    node("Slice", ["map", *part.input[1:3], "axis_1"], ["rows_uint8"]),
                    node("Transpose", ["rows_uint8"], ["rows_first"], perm=[0, 3, 1, 2]),
                    node("DequantizeLinear", ["rows_first", *grid("map")], list(part.output)),
                ]
            else:
                rest = copy.deepcopy(part)
                rest.input[:] = [as_float(name) if name in inside else name for name in part.input]
                blocks.append(rest)
        result = copy.deepcopy(self.model)
        graph = result.graph
        del graph.node[:], graph.value_info[:]
        graph.node.extend(blocks)
        needed = {name for part in graph.node for name in part.input} | {value.name for value in graph.input}
        kept = [t for t in graph.initializer if t.name in needed]
        del graph.initializer[:]
        graph.initializer.extend([*kept, *made])
        result.opset_import.append(helper.make_opsetid(RUNTIME, 1))
        onnx.checker.check_model(result)
        return result
