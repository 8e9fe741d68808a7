"""Structure files read by several processes, in shards that outlive the run: what was read stays read.

A shard is an Arrow file with the chains of some files, in order, and what was skipped in its metadata.
While a worker reads, a mark beside the shard names the file in its hands: if the worker dies, that
file is tried alone, and is skipped with this reason if it takes its reader along again.
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
_VERSION = 1  # of what a shard holds; goes into the key
_HEADER = "protemb-train corpus: shards of structures"
_OURS = re.compile(r"key|\d{6}\.(arrow|reading)|\.(key|\d{6}\.arrow)\..*")


@dataclass(frozen=True, slots=True)
class Shard:
    """Some of the files, and where their chains go."""

    out: Path
    files: tuple[Path, ...]

    @property
    def mark(self) -> Path:
        """Where the worker writes which file it has in its hands."""
        return self.out.with_suffix(".reading")


def read_structures(
    files: list[Path],
    parts: Path,
    limits: Limits,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[pa.Table, list[Skip]]:
    """Read the chains of many structure files; what an interrupted call has read is taken up again.

    Parameters
    ----------
    files : list of Path
        Structure files.
    parts : Path
        Folder for the shards, made here. It belongs to these files (paths, sizes, times) and limits:
        shards of others in it are thrown away. Whoever has what they need removes it with `remove_parts`.
    limits : Limits
        What a chain must keep to.
    workers : int, default 1
        Processes. The result does not depend on their number.
    progress : callable
        Takes the files read so far and their total.

    Returns
    -------
    table : pyarrow.Table
        A row a chain in the order of the files: the columns of a corpus except `split`, and `entity`.
    skips : list of Skip
        Every file and chain that is not in the table.

    Raises
    ------
    CorpusError
        If the folder holds anything else.
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
    """Remove the folder of shards, if it is one; what others put there stays, and the folder with it."""
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
    (parts / "key").unlink()  # last: it says that the rest is ours


def _key_in(parts: Path) -> str | None:
    """Return whose shards the folder holds, None where it is no folder of shards."""
    try:
        header, key, *_ = (parts / "key").read_text(encoding="ascii").split("\n")
    except (OSError, ValueError):  # not there, not text, or not two lines
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
    """Make the folder of shards, and empty it of shards that belong to another key."""
    there = _key_in(parts)
    foreign = os.path.lexists(parts) and (
        not parts.is_dir() or any(not inside.name.startswith(".key.") for inside in parts.iterdir())
    )
    if there is None and foreign:
        raise CorpusError("is in the way of unfinished work, and is not ours; move it away", parts)
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
    """Return the chains of all shards without repeated ids, and the skips."""
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
    """Yield each shard once it is written; start again without the culprit when a worker dies."""
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
                    f"a worker process was ended near {(suspects or left[0].files)[0]}, though not by a file "
                    "alone (out of memory?); run the command again, and it goes on from here"
                ) from error
            if not culprits:  # they die of each other: memory
                workers = 1
            deadly |= culprits


def _finished(
    pool: WorkerPool, shards: list[Shard], limits: Limits, workers: int, deadly: set[Path]
) -> Iterator[Shard]:
    queue = iter(list(shards))
    running: dict[Future[None], Shard] = {}
    try:
        while True:
            # No more than the workers hold: so few marks to look at when one dies.
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
    """Return the file that a worker was reading when it died, and forget it."""
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
        except Exception as error:  # a fault of ours, or no memory: this file must not take others along
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
