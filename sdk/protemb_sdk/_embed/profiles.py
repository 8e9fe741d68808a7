"""Profiles of residue types as a table: a row for each residue, in a CSV that appears whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.output import written_whole
from protemb_sdk._structure.chain import ALPHABET, Chain

TYPES = ALPHABET[:20]
"""Types of a profile, in order."""

COLUMNS = ("id", "chain", "auth_seq", "insertion_code", "residue_name", *TYPES)


class ProfileTable:
    """Rows of profiles in an open file.

    Parameters
    ----------
    file : text file
        Open for writing with ``newline=""``.
    """

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def add(self, chain: Chain, profile: NDArray[np.float32]) -> None:
        """Append the residues of one chain; `profile` has shape (L, 20)."""
        rows = zip(
            chain.chain_of_residue.tolist(), chain.auth_seq.tolist(), chain.insertion_code.tolist(),
            chain.residue_name.tolist(), profile.tolist(), strict=True,
        )  # fmt: skip
        for own, number, code, name, values in rows:
            cells = (f"{value:.6f}" for value in values)
            self._writer.writerow((chain.id, own, number, code, name, *cells))


@contextmanager
def writing_profiles(path: Path) -> Iterator[ProfileTable]:
    """Open a CSV for profiles; it appears whole at the end, or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with written_whole(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        yield ProfileTable(file)
