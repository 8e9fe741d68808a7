"""Embeddings as rows of an Arrow table: what a `.parquet` file and a part of a store hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._model.readouts import READOUT
from protemb_sdk._structure.columns import NAMES, NUMBERS, TEXTS, text_of

if TYPE_CHECKING:
    import pyarrow


def table_of(
    rows: Sequence[Embedding],
    levels: Sequence[str],
    readouts: Sequence[str],
    dtype: str,
    widths: Mapping[str, int],
) -> pyarrow.Table:
    """Return one row for each chain; `widths` are those of `Embedder.widths`."""
    import pyarrow as pa

    number = pa.float16() if dtype == "float16" else pa.float32()
    lengths = [len(row) for row in rows]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))

    def joined(arrays: list[NDArray[Any]], kind: Any) -> Any:
        return pa.array(np.concatenate(arrays) if arrays else np.empty(0, np.float32)).cast(kind)

    def vectors(arrays: list[NDArray[np.float32]], kind: Any, width: int) -> Any:
        flat = [array.astype(kind.to_pandas_dtype()).ravel() for array in arrays]
        values = pa.array(np.concatenate(flat) if flat else np.empty(0, kind.to_pandas_dtype()), type=kind)
        return pa.FixedSizeListArray.from_arrays(values, width)

    columns: dict[str, Any] = {}
    for name in TEXTS:
        columns[name] = pa.array([text_of(row.chain, name) for row in rows], type=pa.string())
    columns["length"] = pa.array(lengths, type=pa.int32())
    columns["protein"] = vectors([row.protein for row in rows], number, widths["protein"])
    if "residue" in levels:
        each = {"residue": [row.residue for row in rows]}
        each |= {READOUT + name: [row.readouts[name] for row in rows] for name in readouts}
        for name, arrays in each.items():
            width = widths["residue" if name == "residue" else "pair"]
            columns[name] = pa.ListArray.from_arrays(offsets, vectors(arrays, number, width))
        coords = [row.chain.ca_coords.astype(np.float32) for row in rows]
        columns["ca_coords"] = pa.ListArray.from_arrays(offsets, vectors(coords, pa.float32(), 3))
        for name in NUMBERS:
            values = joined([getattr(row.chain, name) for row in rows], pa.int32())
            columns[name] = pa.ListArray.from_arrays(offsets, values)
        for name in NAMES:
            texts = pa.array(
                [text for row in rows for text in getattr(row.chain, name).tolist()], type=pa.string()
            )
            columns[name] = pa.ListArray.from_arrays(offsets, texts)
    return pa.table(columns)
