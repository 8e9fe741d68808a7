"""Many embeddings into one file, streamed: `.npz` (flat arrays cut by offsets) or `.parquet` (a row a chain)."""

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

from protemb_sdk._chain import Skipped
from protemb_sdk._embedding import Embedding
from protemb_sdk._errors import OutputError
from protemb_sdk._output import writable_target, written_whole

FORMAT = "protemb-collection-1"
PARQUET_ROWS = 64  # chains a row group: some 10 MB


class Collection(Protocol):
    """Where embeddings go, one at a time."""

    def add(self, embedding: Embedding) -> None:
        """Append one chain."""

    def finish(self, skipped: Sequence[Skipped], provenance: Mapping[str, Any]) -> None:
        """Append what was not embedded and what made the rest."""


@contextmanager
def collecting(path: Path, *, pair: bool) -> Iterator[Collection]:
    """Open a file for embeddings by its ending; it appears whole at the end, or not at all.

    Raises
    ------
    OutputError
        If the ending is unknown, the place cannot be written, or Parquet lacks its library.
    """
    kind = path.suffix.lower()
    if kind not in (".npz", ".parquet"):
        raise OutputError(f"{path}: end the name in .npz or .parquet")
    if kind == ".parquet" and pair:
        raise OutputError(f"{path}: pair embeddings go into .npz, not into .parquet")
    writable_target(path)
    with written_whole(path) as part:
        collection = NpzCollection(part, pair) if kind == ".npz" else ParquetCollection(part)
        with collection:
            yield collection


# Per array: what it is cut by. "chain" has a row a chain; others are cut by an offset array.
_LAYOUT = {
    "id": "chain",
    "name": "chain",
    "chain": "chain",
    "label_chain": "chain",
    "source": "chain",
    "notes": "chain",
    "protein": "chain",
    "sequence": "residue",
    "residue": "residue",
    "ca_coords": "residue",
    "residue_index": "residue",
    "auth_seq": "residue",
    "insertion_code": "residue",
    "label_seq": "residue",
    "residue_name": "residue",
}


def _columns(embedding: Embedding) -> dict[str, Any]:
    chain = embedding.structure
    return {
        "id": chain.id,
        "name": chain.name,
        "chain": chain.chain,
        "label_chain": chain.label_chain,
        "source": chain.source,
        "notes": " | ".join(chain.notes),
        "protein": embedding.protein,
        "sequence": chain.sequence,
        "residue": embedding.residue,
        "ca_coords": chain.ca_coords,
        "residue_index": chain.residue_index,
        "auth_seq": chain.auth_seq,
        "insertion_code": chain.insertion_code,
        "label_seq": chain.label_seq,
        "residue_name": chain.residue_name,
    }


class NpzCollection:
    """Flat arrays in one zip: residues of chain i are `residue[offset[i]:offset[i + 1]]`.

    Wide arrays (residue, pair) go to disk as they come; names and numbers wait in memory.
    """

    def __init__(self, path: Path, pair: bool) -> None:
        self._path = path
        self._folder = Path(tempfile.mkdtemp(dir=path.parent))
        self._small: dict[str, list[Any]] = {name: [] for name in _LAYOUT if name != "residue"}
        self._wide = {
            name: (self._folder / name).open("wb") for name in (("residue", "pair") if pair else ("residue",))
        }
        self._lengths: list[int] = []
        self._channels = 0

    def __enter__(self) -> NpzCollection:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._wide.values():
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, embedding: Embedding) -> None:
        """Append one chain."""
        columns = _columns(embedding)
        self._lengths.append(len(embedding))
        self._channels = embedding.protein.shape[0]
        columns["sequence"] = np.frombuffer(columns["sequence"].encode("ascii"), dtype=np.uint8)
        for name, values in self._small.items():
            values.append(columns[name])
        self._wide["residue"].write(embedding.residue.tobytes())
        if "pair" in self._wide and embedding.pair is not None:
            self._wide["pair"].write(embedding.pair.tobytes())

    def finish(self, skipped: Sequence[Skipped], provenance: Mapping[str, Any]) -> None:
        """Put the arrays into the zip."""
        lengths = np.array(self._lengths, dtype=np.int64)
        arrays: dict[str, NDArray[Any]] = {
            "header": np.array(json.dumps({"format": FORMAT, "provenance": dict(provenance)})),
            "offset": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            "skipped_source": np.array([s.source for s in skipped], dtype=np.str_),
            "skipped_chain": np.array([s.chain for s in skipped], dtype=np.str_),
            "skipped_reason": np.array([s.reason for s in skipped], dtype=np.str_),
        }
        for name, values in self._small.items():
            if not values:
                continue
            arrays[name] = np.concatenate(values) if _LAYOUT[name] == "residue" else np.array(values)
        rows = {"residue": int(lengths.sum()), "pair": int((lengths**2).sum())}
        if "pair" in self._wide:
            arrays["pair_offset"] = np.concatenate([[0], np.cumsum(lengths**2)]).astype(np.int64)
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
            for name, file in self._wide.items():
                file.close()
                header = {"descr": "<f4", "fortran_order": False, "shape": (rows[name], self._channels)}
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    with (self._folder / name).open("rb") as stored:
                        shutil.copyfileobj(stored, member, 1 << 20)


class ParquetCollection:
    """A row a chain; what was skipped and the provenance in the file's metadata."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise OutputError("writing .parquet needs pyarrow: pip install 'protemb-sdk[store]'") from None
        numbers = pa.list_(pa.int32())
        vectors = pa.list_(pa.list_(pa.float32()))
        types = {"protein": pa.list_(pa.float32()), "residue": vectors, "ca_coords": vectors}
        types |= {name: numbers for name in ("residue_index", "auth_seq", "label_seq")}
        types |= {name: pa.list_(pa.string()) for name in ("insertion_code", "residue_name")}
        self._pa = pa
        self._schema = pa.schema([(name, types.get(name, pa.string())) for name in _LAYOUT])
        self._writer = pq.ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> ParquetCollection:
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()

    def add(self, embedding: Embedding) -> None:
        """Append one chain."""
        row = _columns(embedding)
        self._rows.append(
            {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}
        )
        if len(self._rows) == PARQUET_ROWS:
            self._flush()

    def finish(self, skipped: Sequence[Skipped], provenance: Mapping[str, Any]) -> None:
        """Write the last rows and the metadata."""
        self._flush()
        reasons = [{"source": s.source, "chain": s.chain, "reason": s.reason} for s in skipped]
        self._writer.add_key_value_metadata(
            {"protemb": json.dumps({"format": FORMAT, "provenance": dict(provenance), "skipped": reasons})}
        )

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []
