"""Limits for one input: residues, bytes, seconds. The defaults are safe for a service."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from protemb_sdk._base.errors import EmbeddingError, StructureError

if TYPE_CHECKING:
    import onnxruntime

# The longest protein chain in the PDB has some 5,000 residues; one of 10,000 takes minutes.
DEFAULT_RESIDUES = 10_000
# Ten times what the largest entries of the PDB take as text.
DEFAULT_BYTES = 2 * 2**30
# Of each wait for a server.
DEFAULT_TIMEOUT = 30.0
# Three years; timers take no more than threading.TIMEOUT_MAX.
MOST_SECONDS = 1e8


class Limits(NamedTuple):
    """Limits for one input.

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
        """Check the length of a chain.

        Raises
        ------
        StructureError
            If it exceeds the limit; the message names the argument that raises it.
        """
        if count > self.residues:
            raise StructureError(
                f"has {count} residues, more than residue_limit={self.residues}; set it higher if "
                "that is meant",
                where,
                retryable=True,
            )


@dataclass(slots=True)
class Budget:
    """Time limit of the runs of a session, without waiting for other threads."""

    left: float

    @classmethod
    def of(cls, seconds: float | None) -> Budget | None:
        """Return a time budget; None for no limit."""
        return None if seconds is None else cls(seconds)

    @contextmanager
    def spent_on(self, options: onnxruntime.RunOptions) -> Iterator[None]:
        """Stop the run with these options when the time is over."""
        options.terminate = self.left <= 0
        timer = threading.Timer(max(self.left, 0), setattr, (options, "terminate", True))
        timer.daemon = True
        began = time.monotonic()
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self.left -= time.monotonic() - began


def check_bytes(count: int, most: int, where: str) -> None:
    """Check the size of a file.

    Raises
    ------
    StructureError
        If it exceeds the limit; the message names the argument that raises it.
    """
    if count > most:
        raise StructureError(
            f"holds more than byte_limit={most} bytes, unzipped; set it higher if that is intended",
            where,
            retryable=True,
        )


def whole_number(number: int, name: str) -> int:
    """Return an argument that must be a whole number above 0, or raise EmbeddingError with its name."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
        raise EmbeddingError(f"{name} must be a whole number, at least 1, not {number!r}")
    return int(number)


def seconds(number: float, name: str) -> float:
    """Return an argument that must be a number of seconds, or raise EmbeddingError with its name."""
    if isinstance(number, bool) or not isinstance(number, Real) or not 0 < number < MOST_SECONDS:
        raise EmbeddingError(
            f"{name} must be a number of seconds, above 0 and below {MOST_SECONDS:g}, not {number!r}"
        )
    return float(number)
