"""The fields of an ONNX file, and whether it refers to other files.

The format is protocol buffers; field numbers are those of onnx.proto (https://onnx.ai/onnx/repo-docs/onnx.html).
"""

from __future__ import annotations

from collections.abc import Iterator

GRAPH_OF_MODEL, _FUNCTIONS_OF_MODEL = 7, 25
NODES_OF_GRAPH, TENSORS_OF_GRAPH, _SPARSE_OF_GRAPH = 1, 5, 15
INPUTS_OF_GRAPH, OUTPUTS_OF_GRAPH = 11, 12
NAME_OF_VALUE, NAME_OF_TENSOR = 1, 8
ATTRIBUTES_OF_NODE, _NODES_OF_FUNCTION = 5, 7
_TENSOR, GRAPH, _TENSORS, GRAPHS, _SPARSE, _SPARSES = 5, 6, 10, 11, 22, 23  # of an attribute
_EXTERNAL, _LOCATION = 13, 14  # of a tensor

# What to look into, from the message at hand: field -> kind of message there.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {GRAPH_OF_MODEL: "graph", _FUNCTIONS_OF_MODEL: "function"},
    "graph": {NODES_OF_GRAPH: "node", TENSORS_OF_GRAPH: "tensor", _SPARSE_OF_GRAPH: "sparse"},
    "function": {_NODES_OF_FUNCTION: "node"},
    "node": {ATTRIBUTES_OF_NODE: "attribute"},
    "attribute": {
        _TENSOR: "tensor", GRAPH: "graph", _TENSORS: "tensor", GRAPHS: "graph", _SPARSE: "sparse",
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
        for field, value, _ in fields(message):
            if kind == "tensor":
                if field == _EXTERNAL or (field == _LOCATION and value not in (None, 0)):
                    return True
            elif isinstance(value, memoryview) and field in _INSIDE[kind]:
                waiting.append((_INSIDE[kind][field], value))
    return False


def text(of: memoryview | int | None, field: int) -> str:
    """Return a field of a message that is a string, or an empty one."""
    if not isinstance(of, memoryview):
        raise ValueError("a number in place of a message")
    for number, value, _ in fields(of):
        if number == field and isinstance(value, memoryview):
            return bytes(value).decode()
    return ""


def message(field: int, content: bytes) -> bytes:
    """Return a field that holds a message or a string."""
    return _written((field << 3) | 2) + _written(len(content)) + content


def _written(number: int) -> bytes:
    """Return a number as a protocol buffer writes it."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def fields(message: memoryview) -> Iterator[tuple[int, memoryview | int | None, memoryview]]:
    """Yield number, value (bytes, an integer, or None of a fixed width) and all bytes of each field."""
    at = 0
    while at < len(message):
        begin = at
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            number, at = _varint(message, at)
            yield field, number, message[begin:at]
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("not a protocol buffer message")
        if at + size > len(message):
            raise ValueError("the message is cut off")
        value, at = message[at : at + size] if wire == 2 else None, at + size
        yield field, value, message[begin:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
    raise ValueError("the message is cut off")
