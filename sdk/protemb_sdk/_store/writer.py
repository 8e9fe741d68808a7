"""A store: a folder of Parquet files, each written completely or not at all."""

from __future__ import annotations

import csv
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

from protemb_sdk._base.errors import MALFORMED, EmbeddingError, OutputError
from protemb_sdk._base.extras import how_to_install
from protemb_sdk._base.output import write_text_whole, written_whole
from protemb_sdk._base.signals import signals_wait
from protemb_sdk._embed.outcome import Outcome
from protemb_sdk._embed.rows import table_of
from protemb_sdk._store.pair_maps import PairMaps, check_extra, pairs_of, sweep, with_pairs
from protemb_sdk._store.parts import FORMAT, FORMATS, Before, Part, read_before, skipped_rows

HEADER = "_protemb.json"  # readers of Parquet folders pass over names with an underscore
SKIPPED = "_skipped.csv"
LOCK = "_lock"
LEVELS = ("protein", "residue", "pair")
"""Levels of a store; each includes those before it."""
DEFAULT_LEVELS = LEVELS[:2]
_LEVELS_TOGETHER = {LEVELS[: n + 1] for n in range(len(LEVELS))}
DTYPES = ("float32", "float16")

# A part waits in memory until it is written; what waits when a run is killed is embedded again.
PART_CHAINS = 1024
PART_RESIDUES = 200_000
PART_SECONDS = 60.0
PART_PAIRS = 2**29  # bytes of pair embeddings, of which a quarter waits

# Metadata that must be equal for all rows of a store.
_MUST_AGREE = ("model", "model_sha256", "contract", "noise_level", "options")


class Store:
    """A store that is open for writing; made by `open_store`.

    Parameters
    ----------
    path : Path
        Its folder.
    header : mapping
        Metadata of all rows.
    before : Before
        State of the store when the run began.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], before: Before) -> None:
        self.path, self.header, self.before = path, header, before
        self._passing: list[list[str]] = []
        self._waiting = Part()
        self._began = time.monotonic()
        self._pairs = PairMaps(header["dtype"])

    @property
    def wanted(self) -> dict[str, Any]:
        """Options of `Embedder.embed_chain` for the embeddings to be stored."""
        levels = self.header["levels"]
        return {
            "pair": "pair" in levels,
            "residue": "residue" in levels,
            "readouts": tuple(self.header["readouts"]),
        }

    def add(self, outcome: Outcome) -> int:
        """Add the outcome of one input, and return its number of rows; full parts are written."""
        skipped = outcome.skipped
        reasons = [[s.source, s.chain_id, s.reason] for s in skipped]
        if outcome.is_container:  # it is opened in every run, and what is in it are the inputs
            self._passing += reasons
            return 0
        with signals_wait():
            source = os.path.abspath(outcome.source)
            there = self.before.chains.get(source, ())
            rows = [embedding for embedding in outcome.embeddings if embedding.chain_id not in there]
            part = self._waiting
            for number, row in enumerate(rows, start=len(part.rows)):
                if row.pair is not None:
                    self._pairs.add(str(number), row.pair)
            part.rows += [replace(row, pair=None) for row in rows]
            part.residues += sum(map(len, rows))
            if any(s.error is not None and s.error.retryable for s in skipped):
                part.again[source] = {"chains": [row.chain_id for row in rows], "skipped": reasons}
            else:
                part.done.append(source)
                part.skipped += reasons
            enough = len(part.rows) >= PART_CHAINS or part.residues >= PART_RESIDUES
            late = time.monotonic() - self._began > PART_SECONDS
            enough = enough or self._pairs.size >= PART_PAIRS
            if enough or late or len(part) >= 4 * PART_CHAINS:
                self.flush()
        return len(rows)

    def flush(self) -> None:
        """Write the pending rows as a part.

        Raises
        ------
        OutputError
            If the operating system refuses; no part of it is then there.
        """
        with signals_wait():
            self._flush()

    def _flush(self) -> None:
        part, header = self._waiting, self.header
        if not len(part):
            return
        import pyarrow.parquet as pq

        about = {
            "format": FORMAT, "run": self.before.run, "done": part.done, "again": part.again,
            "skipped": part.skipped,
        }  # fmt: skip
        path = self.path / f"part-{part.name(self.before.run)}.parquet"
        table = table_of(part.rows, header["levels"], header["readouts"], header["dtype"], header["widths"])
        if "pair" in header["levels"]:
            table = with_pairs(table, pairs_of(path).name)
            self._pairs.write(pairs_of(path))  # first: a part says that all of it is there
        table = table.replace_schema_metadata({"protemb": json.dumps(about)})
        with written_whole(path) as file:
            pq.write_table(table, file, compression="zstd")
        self._waiting, self._began = Part(), time.monotonic()

    def finish(self) -> None:
        """Write the last part, and the table of skipped inputs and chains of all runs."""
        self.flush()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("source", "chain", "reason"))
        writer.writerows(sorted(skipped_rows(self.path) + self._passing))
        write_text_whole(self.path / SKIPPED, text.getvalue())


@contextmanager
def open_store(
    path: Path,
    provenance: Mapping[str, Any],
    *,
    widths: Mapping[str, int],
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
    widths : mapping of str to int
        `Embedder.widths`.
    levels : sequence of str
        "protein", and "residue", and "pair".
    readouts : sequence of str
        Further readouts, at the residue level.
    dtype : {"float32", "float16"}
        Of the embeddings; coordinates are float32.

    Raises
    ------
    OutputError
        If the folder is not a store, another run writes into it, its rows have other metadata, or it cannot
        be written.
    EmbeddingError
        If levels, readouts or dtype are none that a store may have.
    """
    check_pyarrow(path)
    _check_form(levels, readouts, dtype)
    if "pair" in levels:
        check_extra(path)
    header = {
        "format": FORMAT, "levels": list(levels), "readouts": list(readouts), "dtype": dtype,
        "channels": widths["pair"], "widths": dict(widths), "provenance": dict(provenance),
    }  # fmt: skip
    with _locked(_folder(path)):
        _agree(path, header)
        sweep(path)
        for left in (*path.glob("._*"), *path.glob(".part-*")):  # by a run that was killed while it wrote
            shutil.rmtree(left, ignore_errors=True)
        store = Store(path, header, read_before(path))
        try:
            yield store
            store.finish()
        except BaseException:  # a run that is stopped keeps what it has
            with suppress(OutputError):
                store.flush()
            raise


def check_pyarrow(path: Path) -> None:
    """Check that the library is installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise OutputError(f"a store needs pyarrow; {how_to_install('store')}", path) from None


def _check_form(levels: Sequence[str], readouts: Sequence[str], dtype: str) -> None:
    if isinstance(levels, str) or tuple(levels) not in _LEVELS_TOGETHER:
        raise EmbeddingError(f"levels are {LEVELS[:1]}, {LEVELS[:2]} or {LEVELS}, not {levels!r}")
    if readouts and "residue" not in levels:
        raise EmbeddingError(f"readouts ({', '.join(readouts)}) are of residues; add the level 'residue'")
    if dtype not in DTYPES:
        raise EmbeddingError(f"dtype is {' or '.join(map(repr, DTYPES))}, not {dtype!r}")


def _folder(path: Path) -> Path:
    try:
        if path.exists() and not path.is_dir():
            raise OutputError("is a file, but a store is a folder", path)
        path.mkdir(exist_ok=True)
        # A run that was killed before it wrote the header leaves its lock.
        strangers = [name for name in os.listdir(path) if not name.startswith(".") and name != LOCK]
    except OSError as error:
        raise OutputError(f"cannot be made or read ({error.strerror})", path) from error
    if strangers and HEADER not in strangers:
        raise OutputError(f"is not a store, and not empty ({min(strangers)}); use another folder", path)
    return path


def _agree(path: Path, header: Mapping[str, Any]) -> None:
    """Write the header of a new store, or check that of an existing store."""
    file = path / HEADER
    if not file.exists():
        write_text_whole(file, json.dumps(header, indent=1) + "\n")
        return
    there = read_header(path)
    older = there["format"] != FORMAT
    found = _compared(there | {"format": FORMAT} if older else there)
    ours = _compared(header)
    if found["model_sha256"] == ours["model_sha256"]:  # of one model under two names
        found["model"] = ours["model"]
    for name, value in ours.items():
        if found[name] != json.loads(json.dumps(value)):
            raise OutputError(
                f"a store with {name} {found[name]!r}, and this run has {value!r}; nothing was "
                "changed, use another folder",
                path,
            )
    if older:  # so that no version that cannot go on with it does
        write_text_whole(file, json.dumps(there | {"format": FORMAT}, indent=1) + "\n")


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
        if header["format"] in FORMATS:  # of another, nothing is known
            _check_header(header)
    except (FileNotFoundError, NotADirectoryError):
        raise OutputError(f"is not a store; make one with protemb embed FOLDER -o {path}", path) from None
    except (*MALFORMED, OSError) as error:
        raise OutputError(f"cannot be read as the header of a store ({error!r})", file) from error
    if header["format"] not in FORMATS:
        raise OutputError(
            f"a store with format {header['format']!r}, and this version reads {FORMAT!r}; update "
            "protemb-sdk",
            path,
        )
    return header


def _check_header(header: Mapping[str, Any]) -> None:
    """Check the values of a header."""
    options = header["provenance"]["options"]
    if missing := {"model", "altloc", "min_residues"} - set(options):
        raise KeyError(min(missing))
    levels, readouts = header["levels"], header["readouts"]
    sound = {
        "levels": isinstance(levels, list) and tuple(levels) in _LEVELS_TOGETHER,
        "readouts": isinstance(readouts, list) and all(isinstance(name, str) for name in readouts),
        "dtype": header["dtype"] in DTYPES,
    }
    for name, well in sound.items():
        if not well:
            raise ValueError(f"{name} are {header[name]!r}")


def _compared(header: Mapping[str, Any]) -> dict[str, Any]:
    compared = {name: header[name] for name in ("format", "levels", "readouts", "dtype")}
    return compared | {name: header["provenance"][name] for name in _MUST_AGREE}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock the store while this run writes; the system releases the lock when the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        file = (path / LOCK).open("w")
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror})", path) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError("another run is writing into this store; wait for it", path) from None
        yield
