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
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from protemb_sdk._chain import Skipped
from protemb_sdk._embedding import Embedding
from protemb_sdk._errors import MALFORMED, OutputError
from protemb_sdk._output import write_text_whole, written_whole
from protemb_sdk._pair_maps import PairMaps, check_extra, pairs_of, sweep
from protemb_sdk._rows import table_of, with_pairs

FORMAT = "protemb-store-1"
HEADER = "_protemb.json"  # readers of Parquet folders pass over names with an underscore
SKIPPED = "_skipped.csv"
LOCK = "_lock"
LEVELS = ("protein", "residue", "pair")
"""What a store may hold, each with those before it."""
DEFAULT_LEVELS = LEVELS[:2]
DTYPES = ("float32", "float16")

# A part waits in memory until it is written; what waits when a run is killed is embedded again.
PART_CHAINS = 1024
PART_RESIDUES = 200_000
PART_SECONDS = 60.0
PART_PAIRS = 2**29  # bytes of pair embeddings, of which a quarter waits

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
        self._pairs = PairMaps(header["dtype"])

    @property
    def wanted(self) -> dict[str, Any]:
        """What embeddings must hold: options of `Embedder.embed_chain`."""
        return {"pair": "pair" in self.header["levels"], "readouts": tuple(self.header["readouts"])}

    def done(self) -> set[str]:
        """Return the absolute sources of all inputs that were written."""
        return {source for about in _parts(self.path) for source in about["done"]}

    def add(self, source: str, embeddings: Sequence[Embedding], skipped: Sequence[Skipped]) -> None:
        """Take what became of one input; a part is written when there is enough."""
        self._done.append(os.path.abspath(source))
        for embedding in embeddings:
            if embedding.pair is not None:
                self._pairs.add(str(len(self._rows)), embedding.pair)
                embedding = replace(embedding, pair=None)
            self._rows.append(embedding)
        self._skipped.extend(skipped)
        self._residues += sum(map(len, embeddings))
        enough = len(self._rows) >= PART_CHAINS or self._residues >= PART_RESIDUES
        late = time.monotonic() - self._began > PART_SECONDS
        enough = enough or self._pairs.size >= PART_PAIRS
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
        # Named by its inputs: whoever writes them once more writes the same part.
        name = hashlib.sha256(os.fsencode("\n".join(self._done))).hexdigest()[:32]
        path = self.path / f"part-{name}.parquet"
        table = table_of(
            self._rows, header["levels"], header["readouts"], header["dtype"], header["channels"]
        )
        if "pair" in header["levels"]:
            table = with_pairs(table, pairs_of(path).name)
            self._pairs.write(pairs_of(path))  # first: a part says that all of it is there
        table = table.replace_schema_metadata({"protemb": json.dumps(about)})
        with written_whole(path) as part:
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


@contextmanager
def open_store(
    path: Path,
    provenance: Mapping[str, Any],
    *,
    channels: int,
    levels: Sequence[str] = DEFAULT_LEVELS,
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
    channels : int
        Width of its embeddings.
    levels : sequence of str
        "protein", and "residue", and "pair".
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
    if "pair" in levels:
        check_extra(path)
    header = {
        "format": FORMAT, "levels": list(levels), "readouts": list(readouts), "dtype": dtype,
        "channels": channels, "provenance": dict(provenance),
    }  # fmt: skip
    with _locked(_folder(path)):
        _agree(path, header)
        sweep(path)
        for left in path.glob(".part-*"):  # by a run that was killed while it wrote
            shutil.rmtree(left, ignore_errors=True)
        store = Store(path, header)
        try:
            yield store
            store.finish()
        except BaseException:  # a run that is stopped keeps what it has
            with suppress(OutputError):
                store.flush()
            raise


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
    except (*MALFORMED, OSError) as error:
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
    try:
        file = (path / LOCK).open("w")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(f"{path}: another run is writing into this store; wait for it") from None
        yield
