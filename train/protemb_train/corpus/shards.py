"""Reading of structure files by several processes, in shards that are kept if the run is interrupted.

A shard is an Arrow file with the chains of some files, in order, and the skipped ones in its metadata. While
a worker reads, a mark file next to the shard contains the index of the current file: if the worker dies, that
file is tried alone, and is skipped with this reason if its reader dies again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from protemb_sdk._base.output import write_text_whole, written_whole
from protemb_sdk._base.workers import WorkerPool
from protemb_train.corpus.chains import Limits, Skip, read_file
from protemb_train.corpus.corpus import SCHEMA, CorpusError

FILES_PER_SHARD = 50

_SCHEMA = SCHEMA.append(pa.field("entity", pa.string()))
_VERSION = 1  # of the format of a shard; part of the key
_HEADER = "protemb-train corpus: shards of structures"
_OURS = re.compile(r"key|\d{6}\.(arrow|reading)|\.(key|\d{6}\.arrow)\..*")


@dataclass(frozen=True, slots=True)
class Shard:
    """Some of the files, and the output file for their chains."""

    out: Path
    files: tuple[Path, ...]

    @property
    def mark(self) -> Path:
        """File in which the worker writes the index of its current file."""
        return self.out.with_suffix(".reading")


def read_structures(
    files: list[Path],
    parts: Path,
    limits: Limits,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[pa.Table, list[Skip]]:
    """Read the chains of many structure files, continuing an interrupted call.

    Parameters
    ----------
    files : list of Path
        Structure files.
    parts : Path
        Folder for the shards, which is created. It is identified by these files (paths, sizes, times) and
        limits: other shards in it are deleted. Remove it with `remove_parts` when the shards are no longer
        needed.
    limits : Limits
        Criteria for chains.
    workers : int, default 1
        Number of processes. The result does not depend on it.
    progress : callable
        Called with the number of files read and their total.

    Returns
    -------
    table : pyarrow.Table
        One row per chain in the order of the files: the columns of a corpus except `split`, and `entity`.
    skips : list of Skip
        Every file and chain that is not in the table.

    Raises
    ------
    CorpusError
        If the folder contains other files.
    OutputError
        If a shard cannot be written.
    """
    _claim(parts, _key(files, limits))
    shards = [
        Shard(parts / f"{start // FILES_PER_SHARD:06d}.arrow", tuple(files[start : start + FILES_PER_SHARD]))
        for start in range(0, len(files), FILES_PER_SHARD)
    ]
    waiting = [shard for shard in shards if _opened(shard.out) is None]
    done = sum(len(shard.files) for shard in shards) - sum(len(shard.files) for shard in waiting)
    progress(done, len(files))
    for shard in _read_all(waiting, limits, workers):
        done += len(shard.files)
        progress(done, len(files))
    return _gathered(shards)


def remove_parts(parts: Path) -> None:
    """Remove a folder of shards; other files in it are kept, and then also the folder."""
    if _key_in(parts) is not None:
        _empty(parts)
        if not any(parts.iterdir()) and not parts.is_symlink():
            parts.rmdir()


def _empty(parts: Path) -> None:
    for inside in [*parts.iterdir()]:
        if not _OURS.fullmatch(inside.name) or inside.name == "key":
            continue
        if inside.is_dir() and not inside.is_symlink():
            shutil.rmtree(inside)
        else:
            inside.unlink()
    (parts / "key").unlink()  # last, because it identifies the folder


def _key_in(parts: Path) -> str | None:
    """Return the key of a folder of shards, None if it is not such a folder."""
    try:
        header, key, *_ = (parts / "key").read_text(encoding="ascii").split("\n")
    except (OSError, ValueError):  # missing, not text, or not two lines
        return None
    return key if header == _HEADER else None


def _key(files: list[Path], limits: Limits) -> str:
    known = [(str(file), s.st_size, s.st_mtime_ns) if (s := _stat(file)) else (str(file),) for file in files]
    text = json.dumps([_VERSION, FILES_PER_SHARD, asdict(limits), known])
    return hashlib.sha256(text.encode()).hexdigest()


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None


def _claim(parts: Path, key: str) -> None:
    """Create the folder of shards, and remove shards with another key."""
    there = _key_in(parts)
    foreign = os.path.lexists(parts) and (
        not parts.is_dir() or any(not inside.name.startswith(".key.") for inside in parts.iterdir())
    )
    if there is None and foreign:
        raise CorpusError("exists and is not a folder of unfinished work; move it elsewhere", parts)
    if there == key:
        return
    if there is not None:
        _empty(parts)
    parts.mkdir(exist_ok=True)
    write_text_whole(parts / "key", f"{_HEADER}\n{key}\n")


def _opened(path: Path) -> pa.Table | None:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid):
        return None


def _gathered(shards: Iterable[Shard]) -> tuple[pa.Table, list[Skip]]:
    """Return the chains of all shards without repeated ids, and the skipped ones."""
    tables, skips = [], []
    first: dict[str, str] = {}
    for shard in shards:
        table = _opened(shard.out)
        if table is None:
            raise CorpusError("cannot be read back; run the command again", shard.out)
        about = json.loads(table.schema.metadata[b"protemb"])
        skips += [Skip(**skip) for skip in about["skips"]]
        keep = []
        for name, path in zip(table["id"].to_pylist(), about["paths"], strict=True):
            keep.append(name not in first)
            if name in first:
                chain = name.rpartition("_")[2]
                skips.append(Skip(path, chain, "repeated id", f"{name} was read from {first[name]} before"))
            first.setdefault(name, path)
        tables.append(table.filter(pa.array(keep, type=pa.bool_())).replace_schema_metadata())
    return pa.concat_tables(tables), skips


def _read_all(shards: list[Shard], limits: Limits, workers: int) -> Iterator[Shard]:
    """Yield each shard once it is written; if a worker dies, restart without the file that caused it."""
    deadly: set[Path] = set()
    left = list(shards)
    while left:
        try:
            with _workers(min(workers, len(left))) as pool:
                for shard in _finished(pool, left, limits, workers, deadly):
                    left.remove(shard)
                    yield shard
        except BrokenProcessPool as error:
            suspects = [file for shard in left if (file := _in_hands(shard)) is not None]
            culprits = {file for file in suspects if not _survives(file, limits)}
            if not culprits and workers == 1:
                raise CorpusError(
                    f"a worker process died near {(suspects or left[0].files)[0]}, but not because "
                    "of one file (out of memory?); run the command again to continue"
                ) from error
            if not culprits:  # probably out of memory: use fewer workers
                workers = 1
            deadly |= culprits


def _finished(
    pool: WorkerPool, shards: list[Shard], limits: Limits, workers: int, deadly: set[Path]
) -> Iterator[Shard]:
    queue = iter(list(shards))
    running: dict[Future[None], Shard] = {}
    try:
        while True:
            # No more shards than workers, so that few marks must be checked when one dies.
            while len(running) < workers and (shard := next(queue, None)):
                running[pool.submit(_read_shard, shard, limits, frozenset(deadly))] = shard
            if not running:
                return
            for job in wait(running, return_when=FIRST_COMPLETED).done:
                shard = running.pop(job)
                job.result()
                yield shard
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_hands(shard: Shard) -> Path | None:
    """Return the file that a worker was reading when it died, and remove the mark."""
    try:
        position = int(shard.mark.read_text())
    except (OSError, ValueError):
        return None
    shard.mark.unlink(missing_ok=True)
    return shard.files[position]


def _survives(file: Path, limits: Limits) -> bool:
    with _workers(1) as pool:
        try:
            pool.submit(read_file, file, limits).result()
        except BrokenProcessPool:
            return False
    return True


def _workers(number: int) -> WorkerPool:
    return WorkerPool(number)


def _read_shard(shard: Shard, limits: Limits, deadly: frozenset[Path]) -> None:
    rows, paths, skips = [], [], []
    for position, file in enumerate(shard.files):
        if file in deadly:
            reason = "ends the process that reads it (a crash, or out of memory)"
            skips.append(Skip(str(file), "", "deadly file", reason))
            continue
        shard.mark.write_text(str(position))
        try:
            found, passed_over = read_file(file, limits)
        except Exception as error:  # an internal error or lack of memory must not affect other files
            reason = f"the reader failed ({type(error).__name__}: {error})"
            found, passed_over = [], [Skip(str(file), "", "unreadable file", reason)]
        rows += found
        paths += [str(file)] * len(found)
        skips += passed_over
    about = json.dumps({"paths": paths, "skips": [asdict(skip) for skip in skips]})
    table = pa.Table.from_pylist(rows, schema=_SCHEMA.with_metadata({"protemb": about}))
    with (
        written_whole(shard.out) as part,
        pa.OSFile(str(part), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    shard.mark.unlink(missing_ok=True)
