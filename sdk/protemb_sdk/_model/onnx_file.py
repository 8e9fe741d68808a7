"""What an ONNX file says of itself, read from its bytes, and copies of it with fewer inputs and outputs.

The format is protocol buffers; field numbers are those of onnx.proto (https://onnx.ai/onnx/repo-docs/onnx.html).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

_GRAPH_OF_MODEL, _FUNCTIONS_OF_MODEL = 7, 25
_NODES_OF_GRAPH, _TENSORS_OF_GRAPH, _SPARSE_OF_GRAPH = 1, 5, 15
_INPUTS_OF_GRAPH, _OUTPUTS_OF_GRAPH = 11, 12
_NAME_OF_VALUE, _NAME_OF_TENSOR = 1, 8
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
        for field, value, _ in _fields(message):
            if kind == "tensor":
                if field == _EXTERNAL or (field == _LOCATION and value not in (None, 0)):
                    return True
            elif isinstance(value, memoryview) and field in _INSIDE[kind]:
                waiting.append((_INSIDE[kind][field], value))
    return False


def with_only(content: bytes, inputs: Collection[str], outputs: Collection[str]) -> bytes:
    """Return an ONNX model that takes only some of its inputs and gives only some of its outputs.

    Other inputs are left at their defaults, which become constants; those that are kept lose their default.

    Parameters
    ----------
    content : bytes
        The model.
    inputs, outputs : collection of str
        Names of what is kept.

    Raises
    ------
    ValueError
        If the bytes are no protocol buffer message.
    """
    kept: list[bytes | memoryview] = []
    for field, value, raw in _fields(memoryview(content)):
        if field == _GRAPH_OF_MODEL and isinstance(value, memoryview):
            graph = b"".join(part for part in _kept(value, inputs, outputs))
            kept.append(_written((_GRAPH_OF_MODEL << 3) | 2) + _written(len(graph)) + graph)
        else:
            kept.append(raw)
    return b"".join(kept)


def _kept(graph: memoryview, inputs: Collection[str], outputs: Collection[str]) -> Iterator[memoryview]:
    for field, value, raw in _fields(graph):
        if field in (_INPUTS_OF_GRAPH, _OUTPUTS_OF_GRAPH):
            stays = _text(value, _NAME_OF_VALUE) in (inputs if field == _INPUTS_OF_GRAPH else outputs)
        else:
            stays = field != _TENSORS_OF_GRAPH or _text(value, _NAME_OF_TENSOR) not in inputs
        if stays:
            yield raw


def _text(message: memoryview | int | None, field: int) -> str:
    assert isinstance(message, memoryview)  # fields that hold messages
    for number, value, _ in _fields(message):
        if number == field and isinstance(value, memoryview):
            return bytes(value).decode()
    return ""


def _written(number: int) -> bytes:
    """Return a number as a protocol buffer writes it."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int | None, memoryview]]:
    """Give number, value (bytes, an integer, or None of a fixed width) and all bytes of each field."""
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
