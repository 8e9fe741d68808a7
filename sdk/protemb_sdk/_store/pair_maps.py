"""Pair embeddings of a part of a store: an HDF5 file beside the part, a dataset a row."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import OutputError
from protemb_sdk._base.extras import how_to_install
from protemb_sdk._base.output import written_whole

if TYPE_CHECKING:
    import h5py
    import pyarrow

# Readers of Parquet folders pass over names with an underscore.
_PREFIX, _ENDING = "_pairs-", ".h5"

# A chunk of a map: read alone where a window is wanted. Compressed, maps take a third of their bytes.
CHUNK = 64


class PairMaps:
    """Compressed maps, to be written with their part.

    They are kept in memory, as HDF5 ends the process if a disk is full.

    Parameters
    ----------
    dtype : str
        "float32" or "float16".
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self._open()

    def _open(self) -> None:
        self.size = 0  # bytes, before compression
        self._buffer: io.BytesIO | None = None
        self._file: h5py.File | None = None

    def add(self, name: str, pair_LLC: NDArray[np.float32]) -> None:
        """Append a map as a dataset."""
        import h5py

        length, _, channels = pair_LLC.shape
        edge = min(length, CHUNK)
        if self._file is None:
            self._buffer = io.BytesIO()
            self._file = h5py.File(self._buffer, "w")
        self._file.create_dataset(
            name, data=pair_LLC, dtype=self.dtype, chunks=(edge, edge, channels),
            compression="gzip", compression_opts=1, shuffle=True,
        )  # fmt: skip
        self.size += pair_LLC.size * np.dtype(self.dtype).itemsize

    def write(self, path: Path) -> None:
        """Write the file, if there are maps, and begin another.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        if self._file is None or self._buffer is None:
            return
        self._file.close()
        with written_whole(path) as whole:
            whole.write_bytes(self._buffer.getbuffer())
        self._open()


def pairs_of(part: Path) -> Path:
    """Return the path of the maps of a part."""
    return part.with_name(f"{_PREFIX}{part.stem.removeprefix('part-')}{_ENDING}")


def sweep(store: Path) -> None:
    """Delete the maps of parts that were not written; no other run may be writing."""
    whole = {pairs_of(part) for part in store.glob("part-*.parquet")}
    for path in store.glob(f"{_PREFIX}*"):
        if path not in whole:
            path.unlink(missing_ok=True)


def check_extra(path: Path) -> None:
    """Check that the library is installed."""
    try:
        import h5py  # noqa: F401
    except ImportError:
        raise OutputError(f"pair embeddings need h5py; {how_to_install('pairs')}", path) from None


def with_pairs(table: pyarrow.Table, file: str) -> pyarrow.Table:
    """Return rows that say which dataset of which file, beside the part, holds their pair embedding."""
    import pyarrow as pa

    names = pa.array(map(str, range(len(table))), type=pa.string())
    table = table.append_column("pair_file", pa.array([file] * len(table), type=pa.string()))
    return table.append_column("pair_name", names)
