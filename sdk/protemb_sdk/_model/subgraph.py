"""Parts of an ONNX model: what some outputs need, and what stays the same from one strip to the next.

ONNX Runtime executes every operator of a graph, also those whose results nobody asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from protemb_sdk._model.onnx_file import (
    ATTRIBUTES_OF_NODE,
    GRAPH,
    GRAPH_OF_MODEL,
    GRAPHS,
    INPUTS_OF_GRAPH,
    NAME_OF_TENSOR,
    NAME_OF_VALUE,
    NODES_OF_GRAPH,
    OUTPUTS_OF_GRAPH,
    TENSORS_OF_GRAPH,
    fields,
    message,
    text,
)

_READ_BY_NODE, _MADE_BY_NODE, _OPERATOR_OF_NODE = 1, 2, 4
_TYPE_OF_VALUE, _TENSOR_TYPE, _ELEMENT_TYPE = 2, 1, 1
ELEMENTS = {
    "tensor(float)": 1, "tensor(uint8)": 2, "tensor(int8)": 3, "tensor(int32)": 6, "tensor(int64)": 7,
    "tensor(bool)": 9, "tensor(float16)": 10,
}  # fmt: skip
"""Element types of tensors that pass from one part to another, by their names in ONNX Runtime."""

GIVEN, USED = "means_", "used_"
"""Means of a whole chain as an input, and the tensor that is equal to them if they are given (contract 2)."""


@dataclass(frozen=True, slots=True)
class _Node:
    raw: bytes | memoryview
    reads: tuple[str, ...]
    makes: tuple[str, ...]

    @classmethod
    def same(cls, source: str, result: str) -> _Node:
        """Return a node that copies a tensor."""
        names = ((_READ_BY_NODE, source), (_MADE_BY_NODE, result), (_OPERATOR_OF_NODE, "Identity"))
        content = b"".join(message(field, name.encode()) for field, name in names)
        return cls(message(NODES_OF_GRAPH, content), (source,), (result,))


@dataclass(frozen=True, slots=True)
class Split:
    """What of a model stays the same while some inputs change.

    Parameters
    ----------
    inputs, outputs : tuple of str
        Inputs and outputs of the model in use.
    changing : tuple of str
        Those of the inputs that change.
    shared : tuple of str
        Tensors that pass from the fixed part to the changing one.
    """

    inputs: tuple[str, ...]
    changing: tuple[str, ...]
    outputs: tuple[str, ...]
    shared: tuple[str, ...]


class Parts:
    """An ONNX model, from which parts are taken.

    Parameters
    ----------
    content : bytes
        The model.

    Raises
    ------
    ValueError
        If the bytes are no protocol buffer message.
    """

    def __init__(self, content: bytes) -> None:
        self._around: list[memoryview] = []  # fields of the model beside its graph
        self._rest: list[memoryview] = []  # fields of the graph that every part has
        self._nodes: list[_Node] = []
        self._named: dict[int, dict[str, memoryview]] = {
            field: {} for field in (INPUTS_OF_GRAPH, OUTPUTS_OF_GRAPH, TENSORS_OF_GRAPH)
        }
        self._nested = False
        for field, value, raw in fields(memoryview(content)):
            if field == GRAPH_OF_MODEL and isinstance(value, memoryview):
                self._read(value)
            else:
                self._around.append(raw)

    def _read(self, graph: memoryview) -> None:
        for field, value, raw in fields(graph):
            if field in self._named:
                name = NAME_OF_TENSOR if field == TENSORS_OF_GRAPH else NAME_OF_VALUE
                self._named[field][text(value, name)] = raw
            elif field == NODES_OF_GRAPH and isinstance(value, memoryview):
                self._nodes.append(self._node(value, raw))
            else:
                self._rest.append(raw)

    def _node(self, node: memoryview, raw: memoryview) -> _Node:
        names: dict[int, list[str]] = {_READ_BY_NODE: [], _MADE_BY_NODE: []}
        for field, value, _ in fields(node):
            if field in names and isinstance(value, memoryview):
                names[field].append(bytes(value).decode())
            elif field == ATTRIBUTES_OF_NODE and isinstance(value, memoryview):
                # A graph inside a node reads tensors that its inputs do not name.
                self._nested |= any(inner in (GRAPH, GRAPHS) for inner, _, _ in fields(value))
        return _Node(raw, tuple(filter(None, names[_READ_BY_NODE])), tuple(names[_MADE_BY_NODE]))

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs of the model."""
        return list(self._named[INPUTS_OF_GRAPH])

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs of the model."""
        return list(self._named[OUTPUTS_OF_GRAPH])

    def spares(self, outputs: Collection[str]) -> bool:
        """Tell whether some operators are not needed for these outputs."""
        return not self._nested and len(_needed(self._nodes, outputs)) < len(self._nodes)

    def of(self, inputs: Collection[str], outputs: Collection[str]) -> bytes:
        """Return the model with only some inputs and outputs, and the operators that those need.

        Other inputs have their defaults, which become constants; those that are kept lose their default.
        """
        needed = self._nodes if self._nested else _needed(self._with_given(inputs), outputs)
        return self._written(needed, self._declared(inputs), outputs)

    def split(
        self, inputs: Collection[str], changing: Collection[str], outputs: Collection[str]
    ) -> Split | None:
        """Separate the operators that do not depend on the inputs `changing`.

        The result is None if there are none, if an output does not change, or if that cannot be told.
        """
        if self._nested:
            return None
        varied, changed = set(inputs), set(changing)  # all other tensors are constants
        changes = []
        for node in _needed(self._with_given(inputs), outputs):
            if varied.intersection(node.reads):
                varied.update(node.makes)
            if changed.intersection(node.reads):
                changed.update(node.makes)
                changes.append(node)
        read = {name for node in changes for name in node.reads}
        shared = sorted(read.intersection(varied) - changed - set(inputs))
        if not shared or not set(outputs) <= changed:
            return None
        return Split(tuple(inputs), tuple(changing), tuple(outputs), tuple(shared))

    def fixed(self, split: Split) -> bytes:
        """Return the part of a split that stays the same; its outputs are `split.shared`."""
        needed = _needed(self._with_given(split.inputs), split.shared)
        read = {name for node in needed for name in node.reads}
        return self._written(needed, self._declared(read.intersection(split.inputs)), split.shared)

    def changing(self, split: Split, types: Mapping[str, str]) -> bytes:
        """Return the other part of a split, with the shared tensors as inputs.

        Parameters
        ----------
        split : Split
            Of `split`.
        types : mapping of str to str
            Types of the shared tensors, of `ELEMENTS`.
        """
        needed = _needed(self._with_given(split.inputs), split.outputs, split.shared)
        read = {name for node in needed for name in node.reads}
        values = self._declared(read.intersection(split.inputs))
        for name in split.shared:
            element = bytes([_ELEMENT_TYPE << 3, ELEMENTS[types[name]]])
            kind = message(_TYPE_OF_VALUE, message(_TENSOR_TYPE, element))
            values[name] = _value(INPUTS_OF_GRAPH, name, kind)
        return self._written(needed, values, split.outputs)

    def _with_given(self, inputs: Collection[str]) -> list[_Node]:
        """Return the nodes, of which those that would compute given means copy them instead."""
        given = {
            USED + name.removeprefix(GIVEN): name
            for name in inputs
            if name.startswith(GIVEN) and name in self._named[INPUTS_OF_GRAPH]
        }
        return [
            _Node.same(given[node.makes[0]], node.makes[0]) if node.makes and node.makes[0] in given else node
            for node in self._nodes
        ]

    def _declared(self, names: Collection[str]) -> dict[str, bytes | memoryview]:
        return {name: raw for name, raw in self._named[INPUTS_OF_GRAPH].items() if name in names}

    def _written(
        self, nodes: list[_Node], inputs: Mapping[str, bytes | memoryview], outputs: Collection[str]
    ) -> bytes:
        made = self._named[OUTPUTS_OF_GRAPH]
        results = (made.get(name) or _value(OUTPUTS_OF_GRAPH, name) for name in outputs)
        needed = {name for node in nodes for name in node.reads}.difference(inputs)
        tensors = (raw for name, raw in self._named[TENSORS_OF_GRAPH].items() if name in needed)
        written = (node.raw for node in nodes)
        graph = b"".join([*written, *self._rest, *tensors, *inputs.values(), *results])
        return b"".join([*self._around, message(GRAPH_OF_MODEL, graph)])


def _needed(nodes: Iterable[_Node], outputs: Iterable[str], given: Collection[str] = ()) -> list[_Node]:
    """Return the nodes that outputs need, in their order, if some tensors are given."""
    wanted = set(outputs)
    found = []
    for node in reversed(list(nodes)):  # each node follows those it reads
        if wanted.intersection(node.makes):
            found.append(node)
            wanted.update(name for name in node.reads if name not in given)
    return found[::-1]


def _value(field: int, name: str, kind: bytes = b"") -> bytes:
    """Return the declaration of an input or output."""
    return message(field, message(NAME_OF_VALUE, name.encode()) + kind)
