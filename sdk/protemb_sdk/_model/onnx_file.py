"""What an ONNX file says of itself, read from its bytes: whether its tensors lie in other files.

The format is protocol buffers; field numbers are those of onnx.proto (https://onnx.ai/onnx/repo-docs/onnx.html).
"""

from __future__ import annotations

from collections.abc import Iterator

_GRAPH_OF_MODEL, _FUNCTIONS_OF_MODEL = 7, 25
_NODES_OF_GRAPH, _TENSORS_OF_GRAPH, _SPARSE_OF_GRAPH = 1, 5, 15
_ATTRIBUTES_OF_NODE, _NODES_OF_FUNCTION = 5, 7
_TENSOR, _GRAPH, _TENSORS, _GRAPHS, _SPARSE, _SPARSES = 5, 6, 10, 11, 22, 23  # of an attribute
_EXTERNAL, _LOCATION = 13, 14  # of a tensor

# What to look into, from the message at hand: field -> kind of message there.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {_GRAPH_OF_MODEL: "graph", _FUNCTIONS_OF_MODEL: "function"},
    "graph": {_NODES_OF_GRAPH: "node", _TENSORS_OF_GRAPH: "tensor", _SPARSE_OF_GRAPH: "sparse"},
    "function": {_NODES_OF_FUNCTION: "node"},
    "node": {_ATTRIBUTES_OF_NODE: "attribute"},
    "attribute": {
        _TENSOR: "tensor", _GRAPH: "graph", _TENSORS: "tensor", _GRAPHS: "graph", _SPARSE: "sparse",
        _SPARSES: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
}  # fmt: skip


def has_external_data(content: bytes) -> bool:
    """Tell whether some tensor of an ONNX model lies in another file.

    Raises
    ------
    ValueError
        If the bytes are no protocol buffer message.
    """
    waiting = [("model", memoryview(content))]
    while waiting:
        kind, message = waiting.pop()
        for field, value in _fields(message):
            if kind == "tensor":
                if field == _EXTERNAL or (field == _LOCATION and value not in (None, 0)):
                    return True
            elif isinstance(value, memoryview) and field in _INSIDE[kind]:
                waiting.append((_INSIDE[kind][field], value))
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int | None]]:
    """Give number and value of each field: bytes, an integer, or None of a fixed width."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            number, at = _varint(message, at)
            yield field, number
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("not a protocol buffer message")
        if at + size > len(message):
            raise ValueError("the message is cut off")
        yield field, message[at : at + size] if wire == 2 else None
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
    raise ValueError("the message is cut off")
