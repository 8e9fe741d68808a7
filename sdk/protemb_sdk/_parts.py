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
from typing import Any

from protemb_sdk._embedding import Embedding
from protemb_sdk._errors import OutputError

FORMAT = "protemb-store-1"


@dataclass(slots=True)
class Part:
    """What waits to be written."""

    rows: list[Embedding] = field(default_factory=list)
    residues: int = 0
    done: list[str] = field(default_factory=list)
    skipped: list[list[str]] = field(default_factory=list)
    again: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Inputs that failed for a reason that may pass: which of their chains are there, and what is not."""

    @property
    def name(self) -> str:
        """Of its inputs and their chains: whoever writes them once more writes the same part."""
        inputs = [*self.done, *(json.dumps([source, one["chains"]]) for source, one in self.again.items())]
        return hashlib.sha256(os.fsencode("\n".join(inputs))).hexdigest()[:32]


def store_parts(path: Path) -> list[Path]:
    """Return the Parquet files of a store, in an order that does not change."""
    return sorted(path.glob("part-*.parquet"))


def about_parts(path: Path) -> Iterator[dict[str, Any]]:
    """Give what each part says: `done`, `again` and `skipped` of `Part`.

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


def chains_to_complete(path: Path) -> dict[str, set[str]]:
    """Return the chains that are there already of inputs that are to be tried again, by source."""
    chains: dict[str, set[str]] = {}
    for about in about_parts(path):
        for source, one in about.get("again", {}).items():
            chains.setdefault(source, set()).update(one["chains"])
    return chains


def skipped_rows(path: Path) -> list[list[str]]:
    """Return source, chain and reason of what is not in a store, and was not made good by a later run."""
    rows: list[list[str]] = []
    done: set[str] = set()
    again: dict[tuple[str, str], list[str]] = {}
    there: set[tuple[str, str]] = set()
    for about in about_parts(path):
        rows += about["skipped"]
        done.update(about["done"])
        for source, one in about.get("again", {}).items():
            there |= {(source, chain) for chain in one["chains"]}
            again |= {(source, row[1]): row for row in one["skipped"]}
    return rows + [row for key, row in again.items() if key[0] not in done and key not in there]
