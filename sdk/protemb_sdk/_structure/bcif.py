"""BinaryCIF: columns that are decoded one by one, as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.limits import DEFAULT_BYTES
from protemb_sdk._structure.cif_columns import Column, Listed, Values

if TYPE_CHECKING:
    import gemmi

Array = NDArray[Any]

_ATOM_SITE = (
    "group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id",
    "label_entity_id", "label_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy",
    "B_iso_or_equiv", "auth_seq_id", "auth_comp_id", "auth_asym_id", "auth_atom_id", "pdbx_PDB_model_num",
)  # fmt: skip

_TYPES = {1: "i1", 2: "<i2", 3: "<i4", 4: "u1", 5: "<u2", 6: "<u4", 32: "<f4", 33: "<f8"}


def blocks_of_bcif(data: bytes, where: str, most: int) -> Iterator[tuple[str, Column]]:
    """Give the name of each data block and the reader of its columns.

    Parameters
    ----------
    data : bytes
        The file, unzipped.
    where : str
        For messages.
    most : int
        Bytes that a column may take.

    Raises
    ------
    StructureError
        If the file is damaged.
    """
    import msgpack

    try:
        content = msgpack.unpackb(data, strict_map_key=False)
        blocks = content["dataBlocks"]
        found = [(str(block["header"]), block["categories"]) for block in blocks]
    except Exception as error:  # whatever damage brings out in msgpack or in what it returns
        raise _damaged(where, error) from error
    for name, categories in found:
        yield name, _reader(categories, where, most)


def block_as_document(data: bytes, where: str) -> gemmi.cif.Document:
    """Return the atoms of a BinaryCIF file as mmCIF, for gemmi."""
    from gemmi import cif

    document = cif.Document()
    for name, column in blocks_of_bcif(data, where, DEFAULT_BYTES):
        block = document.add_new_block(name or "x")
        every = ((tag, column(f"_atom_site.{tag}")) for tag in _ATOM_SITE)
        found = {tag: values.pick(np.arange(len(values))) for tag, values in every if values is not None}
        if found:
            loop = block.init_loop("_atom_site.", list(found))
            loop.set_all_values(
                [[cif.quote(str(v)) if v != "" else "?" for v in found[tag]] for tag in found]
            )
    return document


def _reader(categories: Any, where: str, most: int) -> Column:
    done: dict[str, Values | None] = {}

    def column(tag: str) -> Values | None:
        if tag not in done:
            try:
                found = _find(categories, tag, most)
                done[tag] = Listed(found) if found else None
            except Exception as error:  # as above
                raise _damaged(where, error) from error
        return done[tag]

    return column


def _damaged(where: str, error: Exception) -> StructureError:
    said = " ".join(str(error).split())[:120]
    return StructureError(f"not a valid BinaryCIF file ({type(error).__name__}: {said})", where)


def _find(categories: Any, tag: str, most: int) -> list[Any] | None:
    category, _, name = tag.partition(".")
    for found in categories:
        if str(found["name"]).lower() != category:
            continue
        for column in found["columns"]:
            if str(column["name"]) == name:
                values = _decoded(column["data"], most)
                if len(values) != found["rowCount"]:
                    raise ValueError(f"{tag} has {len(values)} of {found['rowCount']} rows")
                return _with_blanks(values, column.get("mask"), most)
    return None


def _with_blanks(values: Array, mask: Any, most: int) -> list[Any]:
    found: list[Any] = values.tolist()
    if mask is not None:
        for row in np.flatnonzero(_decoded(mask, most)).tolist():
            found[row] = ""
    return found


def _decoded(field: Mapping[str, Any], most: int) -> Array:
    data: Any = field["data"]
    for encoding in reversed(field["encoding"]):
        data = _DECODERS[encoding["kind"]](data, encoding, most)
    return np.asarray(data)


def _byte_array(data: Any, encoding: Mapping[str, Any], most: int) -> Array:
    return np.frombuffer(data, dtype=_TYPES[encoding["type"]])


def _fixed_point(data: Array, encoding: Mapping[str, Any], most: int) -> Array:
    found: Array = data.astype(np.float64) / encoding["factor"]
    return found


def _interval(data: Array, encoding: Mapping[str, Any], most: int) -> Array:
    low, high, steps = encoding["min"], encoding["max"], encoding["numSteps"]
    found: Array = low + data.astype(np.float64) * ((high - low) / (steps - 1))
    return found


def _run_length(data: Array, encoding: Mapping[str, Any], most: int) -> Array:
    values, counts = data[::2], data[1::2].astype(np.int64)
    if (counts < 0).any() or 8 * int(counts.sum()) > most:
        raise ValueError("a run of absurd length")
    return np.repeat(values, counts)


def _delta(data: Array, encoding: Mapping[str, Any], most: int) -> Array:
    return np.cumsum(data, dtype=np.int64) + int(encoding["origin"])


def _packed(data: Array, encoding: Mapping[str, Any], most: int) -> Array:
    """Sum values up to and with the first that is not at the limit of its type."""
    bits = {1: 8, 2: 16}[encoding["byteCount"]]
    if encoding["isUnsigned"]:
        open_ = data == 2**bits - 1
    else:
        open_ = (data == 2 ** (bits - 1) - 1) | (data == -(2 ** (bits - 1)))
    if not open_.any():
        return data
    last = ~open_
    sums = np.cumsum(data, dtype=np.int64)[last]
    return np.diff(sums, prepend=0)


def _strings(data: Any, encoding: Mapping[str, Any], most: int) -> Array:
    offsets = _decoded({"data": encoding["offsets"], "encoding": encoding["offsetEncoding"]}, most).tolist()
    index = _decoded({"data": data, "encoding": encoding["dataEncoding"]}, most)
    text = str(encoding["stringData"])
    words = np.array([text[a:b] for a, b in zip(offsets, offsets[1:], strict=False)] + [""], dtype=object)
    if index.size and not -1 <= int(index.min()) <= int(index.max()) < len(words) - 1:
        raise ValueError("an index of a text that is not there")
    return words[index]


_DECODERS = {
    "ByteArray": _byte_array, "FixedPoint": _fixed_point, "IntervalQuantization": _interval,
    "RunLength": _run_length, "Delta": _delta, "IntegerPacking": _packed, "StringArray": _strings,
}  # fmt: skip
