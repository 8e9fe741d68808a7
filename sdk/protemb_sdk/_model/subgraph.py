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

_READ_BY_NODE, _MADE_BY_NODE = 1, 2
_TYPE_OF_VALUE, _TENSOR_TYPE, _ELEMENT_TYPE = 2, 1, 1
_ELEMENTS = {"tensor(float)": 1, "tensor(int32)": 6, "tensor(int64)": 7, "tensor(bool)": 9}
"""Element types of tensors that pass from one part to the other, by their names in ONNX Runtime."""


@dataclass(frozen=True, slots=True)
class _Node:
    raw: memoryview
    reads: tuple[str, ...]
    makes: tuple[str, ...]


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
        return not self._nested and len(self._needed(outputs)) < len(self._nodes)

    def of(self, inputs: Collection[str], outputs: Collection[str]) -> bytes:
        """Return the model with only some inputs and outputs, and the operators that those need.

        Other inputs have their defaults, which become constants; those that are kept lose their default.
        """
        needed = self._nodes if self._nested else self._needed(outputs)
        values = [raw for name, raw in self._named[INPUTS_OF_GRAPH].items() if name in inputs]
        return self._written(needed, inputs, values, outputs)

    def split(
        self, inputs: Collection[str], changing: Collection[str], outputs: Collection[str]
    ) -> Split | None:
        """Return the operators that do not depend on the inputs `changing` apart from the others.

        The result is None if no operator stays the same, or if that cannot be told.
        """
        if self._nested:
            return None
        changed = set(changing)
        needed = self._needed(outputs)
        changes = []
        for node in needed:
            if changed.intersection(node.reads):
                changed.update(node.makes)
                changes.append(node)
        same = {name for node in needed for name in node.makes} - changed
        shared = sorted(same.intersection(name for node in changes for name in node.reads))
        if not shared or not set(outputs) <= changed:
            return None
        return Split(self, tuple(inputs), tuple(changing), tuple(outputs), tuple(shared))

    def fixed(self, split: Split) -> bytes:
        """Return the part of a split that stays the same; its outputs are `split.shared`."""
        kept = [name for name in split.inputs if name not in split.changing]
        needed = self._needed(split.shared)
        read = {name for node in needed for name in node.reads}
        names = [name for name in kept if name in read]
        return self._written(needed, names, [self._named[INPUTS_OF_GRAPH][n] for n in names], split.shared)

    def changing(self, split: Split, types: Mapping[str, str]) -> bytes | None:
        """Return the other part, with the shared tensors as inputs; None for a type it cannot declare.

        Parameters
        ----------
        split : Split
            Of `split`.
        types : mapping of str to str
            Types of the shared tensors, as ONNX Runtime names them.
        """
        if not set(types.values()) <= set(_ELEMENTS):
            return None
        needed = self._needed(split.outputs, split.shared)
        read = {name for node in needed for name in node.reads}
        names = [name for name in split.inputs if name in read]
        values: list[bytes | memoryview] = [self._named[INPUTS_OF_GRAPH][name] for name in names]
        for name in split.shared:
            element = bytes([_ELEMENT_TYPE << 3, _ELEMENTS[types[name]]])
            kind = message(_TYPE_OF_VALUE, message(_TENSOR_TYPE, element))
            values.append(_value(INPUTS_OF_GRAPH, name, kind))
        return self._written(needed, [*names, *split.shared], values, split.outputs)

    def _needed(self, outputs: Iterable[str], given: Collection[str] = ()) -> list[_Node]:
        wanted = set(outputs)
        found = []
        for node in reversed(self._nodes):  # each node follows those it reads
            if wanted.intersection(node.makes):
                found.append(node)
                wanted.update(name for name in node.reads if name not in given)
        return found[::-1]

    def _written(
        self,
        nodes: list[_Node],
        inputs: Iterable[str],
        values: Iterable[bytes | memoryview],
        outputs: Collection[str],
    ) -> bytes:
        made = self._named[OUTPUTS_OF_GRAPH]
        names = (made.get(name) or _value(OUTPUTS_OF_GRAPH, name) for name in outputs)
        needed = {name for node in nodes for name in node.reads} - set(inputs)
        tensors = (raw for name, raw in self._named[TENSORS_OF_GRAPH].items() if name in needed)
        graph = b"".join([*(node.raw for node in nodes), *self._rest, *tensors, *values, *names])
        return b"".join([*self._around, message(GRAPH_OF_MODEL, graph)])


def _value(field: int, name: str, kind: bytes = b"") -> bytes:
    """Return the declaration of an input or output."""
    return message(field, message(NAME_OF_VALUE, name.encode()) + kind)


@dataclass(frozen=True, slots=True)
class Split:
    """A model in two parts.

    Parameters
    ----------
    parts : Parts
        The model.
    inputs, changing, outputs : tuple of str
        Its inputs in use, those of them that change, and its outputs in use.
    shared : tuple of str
        Tensors that pass from the fixed part to the changing one.
    """

    parts: Parts
    inputs: tuple[str, ...]
    changing: tuple[str, ...]
    outputs: tuple[str, ...]
    shared: tuple[str, ...]
