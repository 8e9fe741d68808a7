"""Parts of a store: what one holds, and what all of them say of themselves.

A part holds a row a chain of some inputs, and in its metadata which inputs those were and what of them was
skipped. So what is done can be read from the parts alone, whatever killed the run that wrote them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from protemb_sdk._embedding import Embedding
from protemb_sdk._errors import OutputError

FORMAT = "protemb-store-2"
FORMATS = ("protemb-store-1", FORMAT)  # the first knows no inputs that are tried again


@dataclass(slots=True)
class Part:
    """What waits to be written."""

    rows: list[Embedding] = field(default_factory=list)
    residues: int = 0
    done: list[str] = field(default_factory=list)
    skipped: list[list[str]] = field(default_factory=list)
    again: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Inputs that failed for a reason that may pass: `chains` that are there, rows of what is `skipped`."""

    def __len__(self) -> int:
        return len(self.done) + len(self.again)

    def name(self, run: int) -> str:
        """Return a name of inputs and run alone: whoever takes them once more writes over the same part."""
        inputs = "\n".join([str(run), *sorted([*self.done, *self.again])])
        return hashlib.sha256(os.fsencode(inputs)).hexdigest()[:32]


class Before(NamedTuple):
    """What earlier runs left.

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
    """Return the Parquet files of a store, in an order that does not change."""
    return sorted(path.glob("part-*.parquet"))


def about_parts(path: Path) -> Iterator[dict[str, Any]]:
    """Give what each part says: its `run`, and `done`, `again` and `skipped` of `Part`.

    Raises
    ------
    OutputError
        If one cannot be read.
    """
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


def read_before(path: Path) -> Before:
    """Return what the parts of a store say.

    Raises
    ------
    OutputError
        If one cannot be read.
    """
    before = Before(1, set(), {})
    for about in about_parts(path):
        before = before._replace(run=max(before.run, about.get("run", 0) + 1))
        before.done.update(about["done"])
        for source, one in about.get("again", {}).items():
            before.chains.setdefault(source, set()).update(one["chains"])
    return before


def skipped_rows(path: Path) -> list[list[str]]:
    """Return source, chain and reason of what is not in a store: of each input, what the last run said."""
    rows: list[list[str]] = []
    done: set[str] = set()
    last: dict[str, tuple[int, list[list[str]]]] = {}
    for about in about_parts(path):
        rows += about["skipped"]
        done.update(about["done"])
        for source, one in about.get("again", {}).items():
            if about["run"] > last.get(source, (0,))[0]:
                last[source] = (about["run"], one["skipped"])
    return rows + [row for source, (_, some) in last.items() if source not in done for row in some]
