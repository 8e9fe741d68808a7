"""A store: a folder of Parquet files that grows part by part, each part whole or not there.

A part holds a row a chain of some inputs, and in its metadata which inputs those were and what of them was
skipped. So what is done can be read from the parts alone, whatever killed the run that wrote them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._chain import Skipped
from protemb_sdk._embedding import READOUT, Embedding
from protemb_sdk._errors import OutputError
from protemb_sdk._output import write_text_whole, written_whole

if TYPE_CHECKING:
    import pyarrow

FORMAT = "protemb-store-1"
HEADER = "_protemb.json"  # readers of Parquet folders pass over names with an underscore
SKIPPED = "_skipped.csv"
LOCK = "_lock"
LEVELS = ("protein", "residue")
DTYPES = ("float32", "float16")

# A part waits in memory until it is written; what waits when a run is killed is embedded again.
PART_CHAINS = 1024
PART_RESIDUES = 200_000
PART_SECONDS = 60.0

_NAMES = ("id", "name", "chain", "label_chain", "source", "sequence", "notes")
_NUMBERS = ("residue_index", "auth_seq", "label_seq")
_TEXTS = ("insertion_code", "residue_name")

# What must be equal for rows to stand side by side.
_MUST_AGREE = ("model", "model_sha256", "contract", "noise_level", "options")


class Store:
    """A store that is open for writing; made by `open_store`.

    Parameters
    ----------
    path : Path
        Its folder.
    header : mapping
        What its rows have in common.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self.header = path, header
        self._rows: list[Embedding] = []
        self._residues = 0
        self._began = time.monotonic()
        self._done: list[str] = []
        self._skipped: list[Skipped] = []

    def done(self) -> set[str]:
        """Return the absolute sources of all inputs that were written."""
        return {source for about in _parts(self.path) for source in about["done"]}

    def add(self, source: str, embeddings: Sequence[Embedding], skipped: Sequence[Skipped]) -> None:
        """Take what became of one input; a part is written when there is enough."""
        self._done.append(os.path.abspath(source))
        self._rows.extend(embeddings)
        self._skipped.extend(skipped)
        self._residues += sum(map(len, embeddings))
        enough = len(self._rows) >= PART_CHAINS or self._residues >= PART_RESIDUES
        late = time.monotonic() - self._began > PART_SECONDS
        if enough or late or len(self._done) >= 4 * PART_CHAINS:
            self.flush()

    def flush(self) -> None:
        """Write what waits, as a part.

        Raises
        ------
        OutputError
            If the operating system refuses; no part of it is then there.
        """
        if not self._done:
            return
        import pyarrow.parquet as pq

        about = {
            "format": FORMAT,
            "done": self._done,
            "skipped": [[s.source, s.chain, s.reason] for s in self._skipped],
        }
        header = self.header
        table = table_of(self._rows, header["levels"], header["readouts"], header["dtype"])
        table = table.replace_schema_metadata({"protemb": json.dumps(about)})
        # Named by its inputs: whoever writes them once more writes the same part.
        name = hashlib.sha256("\n".join(self._done).encode()).hexdigest()[:32]
        with written_whole(self.path / f"part-{name}.parquet") as part:
            pq.write_table(table, part, compression="zstd")
        self._rows, self._residues, self._done, self._skipped = [], 0, [], []
        self._began = time.monotonic()

    def finish(self) -> None:
        """Write the last part, and the table of what was skipped in all runs."""
        self.flush()
        rows = sorted(tuple(row) for about in _parts(self.path) for row in about["skipped"])
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("source", "chain", "reason"))
        writer.writerows(rows)
        write_text_whole(self.path / SKIPPED, text.getvalue())


def store_parts(path: Path) -> list[Path]:
    """Return the Parquet files of a store, in an order that does not change."""
    return sorted(path.glob("part-*.parquet"))


def _parts(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in store_parts(path):
        try:
            metadata = pq.read_metadata(part).metadata or {}
            about: dict[str, Any] = json.loads(metadata[b"protemb"])
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise OutputError(
                f"{part}: is no whole part of a store ({str(error).splitlines()[0]}); move it away, and its "
                "inputs are embedded anew"
            ) from error
        yield about


def table_of(
    rows: Sequence[Embedding], levels: Sequence[str], readouts: Sequence[str], dtype: str, width: int = 1
) -> pyarrow.Table:
    """Return the rows of a part; `width` is that of the vectors where there is no row to tell it."""
    import pyarrow as pa

    number = pa.float16() if dtype == "float16" else pa.float32()
    lengths = [len(row) for row in rows]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))

    def joined(arrays: list[NDArray[Any]], kind: Any) -> Any:
        return pa.array(np.concatenate(arrays) if arrays else np.empty(0, np.float32)).cast(kind)

    def vectors(arrays: list[NDArray[np.float32]], kind: Any, width: int = width) -> Any:
        width = arrays[0].shape[-1] if arrays else width
        flat = [array.astype(kind.to_pandas_dtype()).ravel() for array in arrays]
        values = pa.array(np.concatenate(flat) if flat else np.empty(0, kind.to_pandas_dtype()), type=kind)
        return pa.FixedSizeListArray.from_arrays(values, width)

    columns: dict[str, Any] = {}
    for name in _NAMES:
        values = [" | ".join(row.structure.notes) if name == "notes" else _of(row, name) for row in rows]
        columns[name] = pa.array(values, type=pa.string())
    columns["length"] = pa.array(lengths, type=pa.int32())
    columns["protein"] = vectors([row.protein for row in rows], number)
    if "residue" in levels:
        each = {"residue": [row.residue for row in rows]}
        each |= {READOUT + name: [row.readouts[name] for row in rows] for name in readouts}
        for name, arrays in each.items():
            columns[name] = pa.ListArray.from_arrays(offsets, vectors(arrays, number))
        coords = [row.structure.ca_coords.astype(np.float32) for row in rows]
        columns["ca_coords"] = pa.ListArray.from_arrays(offsets, vectors(coords, pa.float32(), 3))
        for name in _NUMBERS:
            values = joined([_of(row, name) for row in rows], pa.int32())
            columns[name] = pa.ListArray.from_arrays(offsets, values)
        for name in _TEXTS:
            texts = pa.array([text for row in rows for text in _of(row, name).tolist()], type=pa.string())
            columns[name] = pa.ListArray.from_arrays(offsets, texts)
    return pa.table(columns)


def _of(row: Embedding, name: str) -> Any:
    return getattr(row.structure if name == "source" else row, name)


@contextmanager
def open_store(
    path: Path,
    provenance: Mapping[str, Any],
    *,
    levels: Sequence[str] = LEVELS,
    readouts: Sequence[str] = (),
    dtype: str = "float32",
) -> Iterator[Store]:
    """Open a store for writing, new or begun before, alone; what was added is written even if the run fails.

    Parameters
    ----------
    path : Path
        Its folder, made if it is not there.
    provenance : mapping
        Of the `Embedder`.
    levels : sequence of str
        "protein", or "protein" and "residue".
    readouts : sequence of str
        Further readouts, at the residue level.
    dtype : {"float32", "float16"}
        Of the embeddings; coordinates are float32.

    Raises
    ------
    OutputError
        If the folder is none of ours, another run writes into it, its rows were made otherwise, or it cannot
        be written.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise OutputError(f"{path}: a store needs pyarrow: pip install 'protemb-sdk[store]'") from None
    header = {
        "format": FORMAT, "levels": list(levels), "readouts": list(readouts), "dtype": dtype,
        "provenance": dict(provenance),
    }  # fmt: skip
    with _locked(_folder(path)):
        _agree(path, header)
        store = Store(path, header)
        try:
            yield store
        except BaseException:  # a run that is stopped keeps what it has
            with suppress(OutputError):
                store.flush()
            raise
        store.finish()


def _folder(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file; a store is a folder")
    try:
        path.mkdir(exist_ok=True)
        strangers = [name for name in os.listdir(path) if not name.startswith(".")]
    except OSError as error:
        raise OutputError(f"{path}: cannot be made or read ({error.strerror})") from error
    if strangers and HEADER not in strangers:
        raise OutputError(f"{path}: is no store, and not empty ({strangers[0]}); name another folder")
    return path


def _agree(path: Path, header: Mapping[str, Any]) -> None:
    """Write the header of a new store, or refuse one whose rows are not like those that would be added."""
    file = path / HEADER
    if not file.exists():
        write_text_whole(file, json.dumps(header, indent=1) + "\n")
        return
    found = _compared(read_header(path))
    for name, value in _compared(header).items():
        if found[name] != json.loads(json.dumps(value)):
            raise OutputError(
                f"{path}: a store with {name} {found[name]!r}, and this run has {value!r}; nothing was "
                "changed, name another folder"
            )


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a store.

    Raises
    ------
    OutputError
        If the folder has none, or one that is damaged.
    """
    file = path / HEADER
    try:
        header: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        _compared(header)
    except (FileNotFoundError, NotADirectoryError):
        raise OutputError(f"{path}: is no store; make one with protemb embed FOLDER -o {path}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{file}: cannot be read as the header of a store ({error!r})") from error
    return header


def _compared(header: Mapping[str, Any]) -> dict[str, Any]:
    compared = {name: header[name] for name in ("format", "levels", "readouts", "dtype")}
    return compared | {name: header["provenance"][name] for name in _MUST_AGREE}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other runs out while this one writes; the system lets go of it whatever ends the process."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (path / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(f"{path}: another run is writing into this store; wait for it") from None
        yield
