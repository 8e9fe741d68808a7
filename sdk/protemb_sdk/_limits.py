"""How much one input may cost: residues, bytes, seconds. Defaults are safe for a service."""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import numpy as np

from protemb_sdk._errors import EmbeddingError, StructureError

# The longest protein chain in the PDB has some 5,000 residues; one of 10,000 takes minutes.
DEFAULT_RESIDUES = 10_000
# Ten times what the largest entries of the PDB take as text.
DEFAULT_BYTES = 2 * 2**30


class Limits(NamedTuple):
    """What one input may cost.

    Parameters
    ----------
    residues : int
        Of a chain.
    bytes : int
        Of a file, unzipped.
    seconds : float or None
        In the network, of a chain.
    """

    residues: int = DEFAULT_RESIDUES
    bytes: int = DEFAULT_BYTES
    seconds: float | None = None

    def check_residues(self, count: int, where: str) -> None:
        """Refuse a chain that is too long.

        Raises
        ------
        StructureError
            With the name of the argument that allows more.
        """
        if count > self.residues:
            raise StructureError(
                f"{where}: has {count} residues, more than residue_limit={self.residues}; set it higher if "
                "that is meant"
            )


def check_bytes(count: int, most: int, where: str) -> None:
    """Refuse a file that is too large.

    Raises
    ------
    StructureError
        With the name of the argument that allows more.
    """
    if count > most:
        raise StructureError(
            f"{where}: holds more than byte_limit={most} bytes, unzipped; set it higher if that is meant"
        )


def whole_number(number: int, name: str) -> int:
    """Return an argument that must be a whole number above 0, or raise EmbeddingError with its name."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
        raise EmbeddingError(f"{name} must be a whole number, at least 1, not {number!r}")
    return int(number)


def seconds(number: float, name: str) -> float:
    """Return an argument that must be a number of seconds, or raise EmbeddingError with its name."""
    if isinstance(number, bool) or not isinstance(number, Real) or not number > 0:
        raise EmbeddingError(f"{name} must be a number of seconds above 0, not {number!r}")
    return float(number)
