"""Many embeddings into one file, streamed.

`.npz` holds flat arrays that are cut by offsets, `.parquet` one row for each chain, as stores do.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import OutputError
from protemb_sdk._base.extras import how_to_install
from protemb_sdk._base.output import add_array, writable_target, written_whole
from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._embed.rows import table_of
from protemb_sdk._model.readouts import READOUT
from protemb_sdk._structure.chain import Skipped
from protemb_sdk._structure.columns import PER_RESIDUE, TEXTS, text_of

FORMAT = "protemb-collection-1"
# A row group of a Parquet file waits in memory until it is written.
PARQUET_CHAINS = 64
PARQUET_RESIDUES = 20_000


class Collection(Protocol):
    """Where embeddings go, one at a time."""

    def add(self, embedding: Embedding) -> None:
        """Append one chain."""

    def finish(self, skipped: Sequence[Skipped], provenance: Mapping[str, Any]) -> None:
        """Append what was not embedded and what made the rest."""


@contextmanager
def collecting(path: Path, *, pair: bool, readouts: Sequence[str] = ()) -> Iterator[Collection]:
    """Open a file for embeddings by its ending; it appears whole at the end, or not at all.

    Parameters
    ----------
    path : Path
        A name in .npz or .parquet.
    pair : bool
        Whether pair embeddings will come (.npz only).
    readouts : sequence of str
        Which readouts will come; each is an array or column `readout_NAME`.

    Raises
    ------
    OutputError
        If the ending is unknown, the place cannot be written, or Parquet lacks its library.
    """
    kind = path.suffix.lower()
    if kind not in (".npz", ".parquet"):
        raise OutputError("end the name in .npz or .parquet", path)
    if kind == ".parquet" and pair:
        raise OutputError("pair embeddings go into .npz, not into .parquet", path)
    writable_target(path)
    with written_whole(path) as part:
        collection: NpzCollection | ParquetCollection = (
            NpzCollection(part, pair, readouts) if kind == ".npz" else ParquetCollection(part, readouts)
        )
        with collection:
            yield collection


class NpzCollection:
    """Flat arrays in one zip: residues of chain i are `residue[offset[i]:offset[i + 1]]`.

    Arrays of residues and pairs go to disk as they come; what there is one of a chain waits in memory.
    """

    def __init__(self, path: Path, pair: bool, readouts: Sequence[str] = ()) -> None:
        self._path = path
        self._folder = Path(tempfile.mkdtemp(dir=path.parent))
        # A sequence is letters of residues here: texts of any length would all be as wide as the longest.
        texts = (name for name in TEXTS if name != "sequence")
        self._per_chain: dict[str, list[Any]] = {name: [] for name in (*texts, "protein")}
        spilled = [
            "sequence",
            "residue",
            *PER_RESIDUE,
            *(READOUT + name for name in readouts),
            *(["pair"] if pair else []),
        ]
        self._files = {name: (self._folder / name).open("w+b") for name in spilled}
        self._parts: dict[str, list[tuple[int, np.dtype[Any]]]] = {name: [] for name in spilled}
        self._tails: dict[str, tuple[int, ...]] = {}
        self._lengths: list[int] = []

    def __enter__(self) -> NpzCollection:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, embedding: Embedding) -> None:
        """Append one chain."""
        chain, length = embedding.chain, len(embedding)
        self._lengths.append(length)
        columns: dict[str, Any] = {name: text_of(chain, name) for name in TEXTS}
        columns |= {name: getattr(chain, name) for name in PER_RESIDUE}
        columns |= {READOUT + name: array for name, array in embedding.readouts.items()}
        columns |= {"protein": embedding.protein, "residue": embedding.residue}
        columns["sequence"] = np.frombuffer(chain.sequence.encode("ascii"), dtype=np.uint8)
        if embedding.pair is not None:
            columns["pair"] = embedding.pair.reshape(length * length, -1)
        for name, values in self._per_chain.items():
            values.append(columns[name])
        for name, file in self._files.items():
            array: NDArray[Any] = columns[name]
            file.write(array.tobytes())
            self._parts[name].append((array.size, array.dtype))
            self._tails[name] = array.shape[1:]

    def finish(self, skipped: Sequence[Skipped], provenance: Mapping[str, Any]) -> None:
        """Put the arrays into the zip."""
        lengths = np.array(self._lengths, dtype=np.int64)
        arrays: dict[str, NDArray[Any]] = {
            "header": np.array(json.dumps({"format": FORMAT, "provenance": dict(provenance)})),
            "offset": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            "skipped_source": np.array([s.source for s in skipped], dtype=np.str_),
            "skipped_chain": np.array([s.chain_id for s in skipped], dtype=np.str_),
            "skipped_reason": np.array([s.reason for s in skipped], dtype=np.str_),
            **{name: np.array(values) for name, values in self._per_chain.items()},
        }
        if "pair" in self._files:
            arrays["pair_offset"] = np.concatenate([[0], np.cumsum(lengths**2)]).astype(np.int64)
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in arrays.items():
                add_array(archive, name, array)
            for name in self._files:
                self._add_spilled(archive, name, int((lengths**2 if name == "pair" else lengths).sum()))

    def _add_spilled(self, archive: zipfile.ZipFile, name: str, rows: int) -> None:
        file, parts = self._files[name], self._parts[name]
        # Names of residues are as wide as the widest of a chain; the array takes the widest of all.
        dtype = np.result_type(*{dtype for _, dtype in parts}) if parts else np.dtype(np.float32)
        shape = (rows, *self._tails.get(name, ()))
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        file.seek(0)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for size, stored in parts:
                values = np.frombuffer(file.read(size * stored.itemsize), dtype=stored)
                member.write(values.astype(dtype, copy=False).tobytes())


class ParquetCollection:
    """One row for each chain, in the columns of a store.

    What was skipped and the provenance are JSON under `protemb` in the file's metadata, which
    `pyarrow.parquet.read_metadata(path).metadata[b"protemb"]` reads.
    """

    def __init__(self, path: Path, readouts: Sequence[str] = ()) -> None:
        try:
            import pyarrow.parquet as pq
        except ImportError:
            raise OutputError(f"writing .parquet needs pyarrow; {how_to_install('store')}") from None
        self._path, self._readouts, self._pq = path, readouts, pq
        self._writer: Any = None  # made with the first rows, which know how wide vectors are
        self._rows: list[Embedding] = []
        self._residues = 0

    def __enter__(self) -> ParquetCollection:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, embedding: Embedding) -> None:
        """Append one chain."""
        self._rows.append(embedding)
        self._residues += len(embedding)
        if len(self._rows) >= PARQUET_CHAINS or self._residues >= PARQUET_RESIDUES:
            self._flush()

    def finish(self, skipped: Sequence[Skipped], provenance: Mapping[str, Any]) -> None:
        """Write the last rows and the metadata."""
        if self._rows or self._writer is None:
            self._flush()
        reasons = [{"source": s.source, "chain": s.chain_id, "reason": s.reason} for s in skipped]
        self._writer.add_key_value_metadata(
            {"protemb": json.dumps({"format": FORMAT, "provenance": dict(provenance), "skipped": reasons})}
        )

    def _flush(self) -> None:
        widths = {"protein": 1, "residue": 1, "pair": 1}
        for row in self._rows[:1]:
            widths = {"protein": len(row.protein), "residue": row.residue.shape[1]}
            widths["pair"] = next((values.shape[1] for values in row.readouts.values()), 1)
        table = table_of(self._rows, ("protein", "residue"), self._readouts, "float32", widths)
        if self._writer is None:
            self._writer = self._pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)
        self._rows, self._residues = [], 0
