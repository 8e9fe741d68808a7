"""Predicted sites as a table: a row a residue, streamed into a CSV that appears whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.output import written_whole
from protemb_sdk._structure.chain import Chain

COLUMNS = ("chain", "auth_seq", "insertion_code", "label_seq", "residue_name", "probability", "site")


class SiteTable:
    """Rows of predictions in an open file.

    Parameters
    ----------
    file : text file
        Open for writing with ``newline=""``.
    source : bool
        Begin each row with the path, or else the name, of the structure.
    """

    def __init__(self, file: TextIO, source: bool) -> None:
        self._writer, self._source = csv.writer(file, lineterminator="\n"), source
        self._writer.writerow((*(["source"] if source else []), *COLUMNS))

    def add(self, chain: Chain, probability: NDArray[np.float32], is_site: NDArray[np.bool_]) -> None:
        """Append the residues of one chain."""
        before = [chain.source or chain.name] if self._source else []
        rows = zip(
            chain.auth_seq.tolist(), chain.insertion_code.tolist(), chain.label_seq.tolist(),
            chain.residue_name.tolist(), probability.tolist(), is_site.tolist(),
            strict=True,
        )  # fmt: skip
        for number, code, label, name, probability, site in rows:
            known = "" if label < 0 else label
            self._writer.writerow(
                (*before, chain.chain, number, code, known, name, f"{probability:.6f}", int(site))
            )


@contextmanager
def writing_sites(path: Path, *, source: bool) -> Iterator[SiteTable]:
    """Open a CSV for predictions; it appears whole at the end, or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with written_whole(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        yield SiteTable(file, source)
