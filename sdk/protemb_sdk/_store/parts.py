"""Parts of a store: what one holds, and what all of them say of themselves.

A part holds one row for each chain of some inputs, and in its metadata which inputs those were and what was
skipped of them. So what is done can be read from the parts alone, whatever killed the run that wrote them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from protemb_sdk._base.errors import MALFORMED, OutputError, printable
from protemb_sdk._embed.embedding import Embedding

FORMAT = "protemb-store-2"
FORMATS = ("protemb-store-1", FORMAT)  # the first knows no inputs that are tried again


@dataclass(slots=True)
class Part:
    """Rows and inputs that are not written yet."""

    rows: list[Embedding] = field(default_factory=list)
    residues: int = 0
    done: list[str] = field(default_factory=list)
    skipped: list[list[str]] = field(default_factory=list)
    again: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Inputs that failed for a reason that may pass: `chains` that are there, rows of what is `skipped`."""

    def __len__(self) -> int:
        return len(self.done) + len(self.again)

    def name(self, run: int) -> str:
        """Return a name of inputs and run alone: a repeated run overwrites the same part."""
        inputs = "\n".join([str(run), *sorted([*self.done, *self.again])])
        return hashlib.sha256(os.fsencode(inputs)).hexdigest()[:32]


class Before(NamedTuple):
    """Inputs and rows of earlier runs.

    Parameters
    ----------
    run : int
        Number of the run that follows.
    done : set of str
        Absolute sources of inputs that need not be tried again.
    chains : dict of str to set of str
        Chains that are there of the others, by source.
    """

    run: int
    done: set[str]
    chains: dict[str, set[str]]


def store_parts(path: Path) -> list[Path]:
    """Return the Parquet files of a store, sorted."""
    return sorted(path.glob("part-*.parquet"))


class About(NamedTuple):
    """What a part says of itself: number of its run, and `done`, `skipped` and `again` of `Part`."""

    run: int  # 0 in the first format
    done: list[str]
    skipped: list[list[str]]
    again: dict[str, dict[str, Any]]


def about_parts(path: Path) -> Iterator[About]:
    """Yield the metadata of each part.

    Raises
    ------
    OutputError
        If one cannot be read, or its metadata is invalid.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in store_parts(path):
        try:
            metadata = pq.read_metadata(part).metadata or {}
            about = _about(json.loads(metadata.get(b"protemb", b"null")))
        except (pa.ArrowException, *MALFORMED, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise OutputError(
                f"is not a complete part of a store ({reason}); move it away, and its inputs are embedded "
                "again",
                part,
            ) from error
        yield about


def _about(loaded: Any) -> About:
    """Return the validated metadata of a part."""
    if not isinstance(loaded, dict):
        raise ValueError("its metadata does not say which inputs it holds")
    fields: dict[str, Any] = {"run": 0, "done": None, "skipped": None, "again": {}} | loaded
    about = About(**{name: fields[name] for name in About._fields})
    sound = {
        "done": _strings(about.done),
        "skipped": _rows(about.skipped),
        "again": isinstance(about.again, dict) and all(map(_tried, about.again.values())),
        # The first format has no runs, and tries nothing again; of two runs the last has the last word.
        "run": type(about.run) is int and (1 if about.again else 0) <= about.run < 2**53,
    }
    for name, well in sound.items():
        if not well:
            raise ValueError(f"its metadata is damaged in {name!r}")
    return about


def _tried(x: object) -> bool:
    return isinstance(x, dict) and _strings(x.get("chains")) and _rows(x.get("skipped"))


def _strings(x: object) -> bool:
    return isinstance(x, list) and all(isinstance(one, str) for one in x)


def _rows(x: object) -> bool:
    return isinstance(x, list) and all(_strings(row) and len(row) == 3 for row in x)


def read_before(path: Path) -> Before:
    """Return the metadata of the parts of a store.

    Raises
    ------
    OutputError
        If one cannot be read.
    """
    before = Before(1, set(), {})
    for about in about_parts(path):
        before = before._replace(run=max(before.run, about.run + 1))
        before.done.update(about.done)
        for source, one in about.again.items():
            before.chains.setdefault(source, set()).update(one["chains"])
    return before


def skipped_rows(path: Path) -> list[list[str]]:
    """Return source, chain and reason of what is not in a store: of each input, what the last run said."""
    rows: list[list[str]] = []
    done: set[str] = set()
    last: dict[str, tuple[int, list[list[str]]]] = {}
    for about in about_parts(path):
        rows += about.skipped
        done.update(about.done)
        for source, one in about.again.items():
            if about.run > last.get(source, (0,))[0]:
                last[source] = (about.run, one["skipped"])
    rows += [row for source, (_, some) in last.items() if source not in done for row in some]
    # Of a damaged part, or an older version: halves of characters, which no file in UTF-8 takes.
    return [[printable(cell) for cell in row] for row in rows]
