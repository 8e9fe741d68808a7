"""The folder of an index: whitened embeddings of a store, laid out to be searched from disk.

A header (JSON), the whitenings, a graph of protein descriptors (usearch), a table of the chains (Parquet),
and their residues and C-alphas, chain after chain (NumPy). A folder is there whole or not at all.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import MALFORMED, OutputError
from protemb_sdk._base.extras import how_to_install
from protemb_sdk._embed.collect import FORMAT as COLLECTION
from protemb_sdk._model.models import CONTRACT
from protemb_sdk._search.whitening import Whitening, fit_whitening, unit
from protemb_sdk._store.parts import store_parts
from protemb_sdk._store.writer import read_header

if TYPE_CHECKING:
    import pyarrow
    import usearch.index

FORMAT = "protemb-index-1"
FORMAT_PLAIN = "protemb-index-2"
"""Without a whitening of descriptors: in contract 2 they are the protein vectors themselves."""
FORMATS = (FORMAT, FORMAT_PLAIN)
HEADER = "protemb-index.json"
WHITENINGS, VECTORS, CHAINS = "whitenings.npz", "descriptors.usearch", "chains.parquet"
RESIDUES, COORDS = "residues.npy", "ca_coords.npy"

# Of the store, drawn evenly, for the whitenings: means over more do not change.
SAMPLE = 200_000
# Of the graph: links of a node, width of the search when a node is added
# (benchmarks/experiments/vector_index.md).
LINKS, WIDTH = 16, 128
# Rows of a part that are in memory at once.
ROWS = 256

_COLUMNS = ("id", "name", "chain", "source", "sequence", "length")


@dataclass(frozen=True, slots=True, eq=False)
class Whitenings:
    """What turns a chain's embedding into what is compared.

    Parameters
    ----------
    residue : Whitening or None
        Of residue embeddings; None where the store has only proteins.
    protein : Whitening or None
        Of descriptors; None where protein vectors are compared as they are.
    """

    residue: Whitening | None
    protein: Whitening | None

    def residues(self, residue_LC: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return residues whitened, of length 1, shape (L, C)."""
        assert self.residue is not None
        return unit(self.residue(residue_LC))

    def descriptor(
        self, protein: NDArray[np.floating], residue: NDArray[np.floating] | None
    ) -> NDArray[np.float32]:
        """Return the unit vector by whose cosine candidates are found."""
        if self.protein is None:
            return unit(np.asarray(protein, dtype=np.float32))
        return unit(self.protein(raw_descriptor(self.residue, protein, residue)))


def raw_descriptor(
    whitening: Whitening | None, protein: NDArray[np.floating], residue: NDArray[np.floating] | None
) -> NDArray[np.float32]:
    """Return mean and deviation of whitened residues, shape (2 C,), or a protein alone, shape (C,)."""
    if whitening is None or residue is None:
        return np.asarray(protein, dtype=np.float32)
    white_LC = whitening(residue)
    return np.concatenate([white_LC.mean(axis=0), white_LC.std(axis=0)])


def build_index(store: str | PathLike[str], out: str | PathLike[str]) -> int:
    """Make an index of a store or of a `.parquet` file, to be searched by `open_index`.

    Reads it part by part. Needs ``pip install 'protemb-sdk[search]'``.

    Parameters
    ----------
    store : path
        Folder made by `protemb embed -o` or `protemb_sdk.ray`, or a `.parquet` file of `protemb embed -o`.
    out : path
        Folder to make.

    Returns
    -------
    int
        Chains in it.

    Raises
    ------
    OutputError
        If the store is none, is damaged or empty, if `out` exists or cannot be written, or if the
        extra is not installed. Nothing is then left at `out`.

    Examples
    --------
    >>> from protemb_sdk import Embedder, embed_into_store, search
    >>> embedder = Embedder(device="cpu")
    >>> summary = embed_into_store(embedder, ["1a8o.cif"], "store")
    >>> search.build_index("store", "index")
    1
    """
    store, out = Path(store), Path(out)
    if os.path.exists(out):
        raise OutputError("already exists; name another folder, or delete it", out)
    if not os.path.isdir(out.parent):
        raise OutputError(f"the folder {out.parent} does not exist; make it first", out)
    check_extra(out)
    header = header_of(store)
    if store.resolve() in out.resolve().parents:
        raise OutputError("lies within the store, whose readers would meet it; name another place", out)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            part = Path(folder) / out.name
            part.mkdir()
            count = _build(store, header, part)
            part.rename(out)
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror or error})", out) from error
    return count


def check_extra(path: Path) -> None:
    """Refuse where the libraries of the extra are not installed."""
    try:
        import pyarrow  # noqa: F401
        import usearch.index  # noqa: F401
    except ImportError as error:
        raise OutputError(f"an index needs {error.name}; {how_to_install('search')}", path) from None


def _build(store: Path, header: Mapping[str, Any], out: Path) -> int:
    import pyarrow.parquet as pq

    lengths = [table["length"].to_numpy() for table in tables(store, ["length", "sequence"])]
    chains, residues = sum(map(len, lengths)), int(sum(map(np.sum, lengths)))
    if not chains:
        raise OutputError("the store holds no chain; see _skipped.csv in it", store)
    deep = "residue" in header["levels"]
    white = fit_whitening(_sample(store, residues)) if deep else None
    plain = header["provenance"]["contract"] != CONTRACT
    columns = [*_COLUMNS, "protein", *(["residue", "ca_coords"] if deep else [])]
    raw: list[NDArray[np.float32]] = []
    with ExitStack() as files:
        if white is not None:
            kept = files.enter_context(_appending(out / RESIDUES, np.float16, (residues, len(white.mean))))
            coords = files.enter_context(_appending(out / COORDS, np.float32, (residues, 3)))
        rows = files.enter_context(pq.ParquetWriter(out / CHAINS, _schema(), compression="zstd"))
        for table in tables(store, columns):
            rows.write_table(table.select(_COLUMNS))
            for number in range(len(table)):
                protein = table["protein"][number].values.to_numpy()
                if white is None:
                    raw.append(raw_descriptor(None, protein, None))
                    continue
                residue = _matrix(table["residue"][number])
                raw.append(raw_descriptor(None if plain else white, protein, residue))
                kept(unit(white(residue)))
                coords(_matrix(table["ca_coords"][number]))
    raw_ND = np.stack(raw)
    whitenings = Whitenings(white, None if plain else fit_whitening(raw_ND[:: _step(chains)]))
    _save_whitenings(out / WHITENINGS, whitenings)
    graph = new_graph(raw_ND.shape[1])
    graph.add(np.arange(chains), unit(raw_ND if whitenings.protein is None else whitenings.protein(raw_ND)))
    try:
        graph.save(str(out / VECTORS))
    except RuntimeError as error:  # how the library says that the disk is full
        raise OSError(str(error)) from error
    about = {
        "format": FORMAT_PLAIN if plain else FORMAT, "chains": chains, "residues": residues,
        "levels": header["levels"], "provenance": header["provenance"],
    }  # fmt: skip
    (out / HEADER).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return chains


def header_of(store: Path) -> dict[str, Any]:
    """Return the header of a store, or what it would be of a `.parquet` file."""
    return _header_of_file(store) if store.is_file() else read_header(store)


def _header_of_file(path: Path) -> dict[str, Any]:
    """Return what the header of a store would say of a `.parquet` file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = json.loads((pq.read_metadata(path).metadata or {})[b"protemb"])
        if about["format"] != COLLECTION:
            raise ValueError(f"its format is {about['format']!r}")
        return {"levels": ["protein", "residue"], "provenance": dict(about["provenance"])}
    except (pa.ArrowException, *MALFORMED, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OutputError(
            f"is no .parquet file of protemb embed ({reason}); make one, or a store", path
        ) from error


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    return pa.schema([(name, pa.int32() if name == "length" else pa.string()) for name in _COLUMNS])


@contextmanager
def _appending(
    path: Path, dtype: type[np.generic], shape: tuple[int, int]
) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Give what appends rows to a new .npy file; a map would end the process where the disk is full."""
    with path.open("wb") as file:
        about = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, about)

        def append(rows: NDArray[Any]) -> None:
            file.write(np.ascontiguousarray(rows, dtype=dtype).data)

        yield append


def new_graph(width: int) -> usearch.index.Index:
    """Return an empty graph of neighbours by cosine."""
    from usearch.index import Index

    return Index(ndim=width, metric="cos", dtype="f16", connectivity=LINKS, expansion_add=WIDTH)


def tables(store: Path, columns: list[str]) -> Iterator[pyarrow.Table]:
    """Give the rows of a store, some at a time, and the same way each time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for part in [store] if store.is_file() else store_parts(store):
        try:
            with pq.ParquetFile(part) as file:
                # Files of version 0.1 have no column of lengths.
                counted = store.is_file() and "length" in columns and "length" not in file.schema_arrow.names
                stored = [name for name in columns if not (counted and name == "length")]
                if missing := set(stored) - set(file.schema_arrow.names):
                    raise pa.ArrowInvalid(f"no column {min(missing)}")
                for batch in file.iter_batches(ROWS, columns=stored):
                    table = pa.Table.from_batches([batch])
                    if counted:
                        table = table.append_column("length", pc.utf8_length(table["sequence"]))
                    yield table
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise OutputError(
                f"is not a complete part of a store ({reason}); embed its inputs anew", part
            ) from error


def _matrix(cell: pyarrow.ListScalar) -> NDArray[Any]:
    rows = cell.values
    return np.asarray(rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1))


def _step(count: int) -> int:
    return max(1, -(-count // SAMPLE))


def _sample(store: Path, residues: int) -> NDArray[np.float32]:
    """Return residues of a store at equal steps, at most `SAMPLE` of them, shape (N, C)."""
    step, seen, kept = _step(residues), 0, []
    for table in tables(store, ["residue"]):
        for cell in table["residue"]:
            residue = _matrix(cell)
            kept.append(residue[-seen % step :: step].astype(np.float32))
            seen += len(residue)
    return np.concatenate(kept)


def _save_whitenings(path: Path, whitenings: Whitenings) -> None:
    both = {"protein": whitenings.protein, "residue": whitenings.residue}
    arrays: dict[str, Any] = {}
    for name, whitening in both.items():
        if whitening is not None:
            arrays |= {f"{name}_mean": whitening.mean, f"{name}_matrix": whitening.matrix}
    np.savez(path, **arrays)


def load_whitenings(path: Path) -> Whitenings:
    """Return the whitenings of an index."""
    with path.open("rb") as file, np.load(file) as arrays:  # NumPy leaves a damaged one open
        found = {
            name: Whitening(arrays[f"{name}_mean"], arrays[f"{name}_matrix"])
            for name in ("protein", "residue")
            if f"{name}_mean" in arrays
        }
    return Whitenings(found.get("residue"), found.get("protein"))
