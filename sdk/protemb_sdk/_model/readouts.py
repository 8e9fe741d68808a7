"""Readouts: the named ways to read residue embeddings out of a pair map, and their sums over its strips.

The paper's plain mean over all columns drowns which residues touch which. Importing this module loads no
Numba; a `ReadoutPool` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError

CONTACT_SCALE = 8.0
"""Angstrom over which the weight of a contact falls."""

SHELLS = {
    "shell-0-6": (0.0, 6.0),
    "shell-6-10": (6.0, 10.0),
    "shell-10-14": (10.0, 14.0),
    "shell-14-20": (14.0, 20.0),
    "shell-20-30": (20.0, 30.0),
}
"""Bounds in angstrom, the lower one inside."""

READOUTS: dict[str, str] = {
    "mean": "mean over all columns; the default, what Embedding.residue is",
    "contact": "mean over columns weighted exp(-(d / 8)^2), d the distance of the C-alphas in angstrom",
    **{
        name: f"mean over the columns of residues {low:g} to {high:g} angstrom away; zeros if there are none"
        for name, (low, high) in SHELLS.items()
    },
    "max": "largest value over columns",
    "column": "mean over rows: the residue as column",
    "column-contact": "mean over rows with the weights of contact: the residue as column",
}
"""Every readout and what it is, in one line."""

RESIDUE = "residue"
"""Name by which heads take `Embedding.residue` itself; it is no readout of the pair map."""

PROFILE = "profile"
"""Name by which heads take the profile of residue types, and the log probability of each residue's own."""

READOUT = "readout_"
"""Stands before a readout's name where it is the name of an array in a file."""


class Asked(TypedDict):
    """What an embedding must be asked for: options of `Embedder.embed`."""

    readouts: tuple[str, ...]
    profile: bool


def asked_for(names: Sequence[str]) -> Asked:
    """Return what an embedding must be asked for to hold the named vectors of residues."""
    others = tuple(name for name in names if name not in (RESIDUE, PROFILE))
    return {"readouts": others, "profile": PROFILE in names}


def list_readouts() -> dict[str, str]:
    """Return the names that ``readouts=`` takes, the default first, each with one line about it.

    Returns
    -------
    dict of str to str
        Definition by name.

    Examples
    --------
    >>> from protemb_sdk import list_readouts
    >>> list(list_readouts())[:4]
    ['mean', 'contact', 'shell-0-6', 'shell-6-10']
    """
    return dict(READOUTS)


def check_readouts(readouts: object) -> tuple[str, ...]:
    """Return names of readouts without repetition; a `str` is one name.

    Raises
    ------
    EmbeddingError
        If a name is unknown.
    """
    if isinstance(readouts, str):
        readouts = (readouts,)
    if not isinstance(readouts, Iterable):
        raise EmbeddingError(f"readouts={readouts!r}: pass names, any of {', '.join(READOUTS)}")
    names = tuple(dict.fromkeys(readouts))
    for name in names:
        if name not in READOUTS:
            raise EmbeddingError(f"there is no readout {name!r}; there are {', '.join(READOUTS)}")
    return names


class ReadoutPool:
    """Readouts of one chain, out of strips of its pair map.

    Parameters
    ----------
    names : tuple of str
        Readouts wanted; the mean is made in any case.
    ca_coords : ndarray, float64, shape (L, 3)
        C-alpha coordinates in angstrom.
    channels : int
        C of the pair map.
    threads : int, optional
        Threads to use at the most; they change no byte of the result.
    """

    def __init__(
        self, names: tuple[str, ...], ca_coords: NDArray[np.float64], channels: int, threads: int | None
    ) -> None:
        length = len(ca_coords)
        self._names, self._threads = names, threads
        self._coords = ca_coords - ca_coords.mean(axis=0)
        contact = "contact" in names or "column-contact" in names
        self._scale = CONTACT_SCALE if contact else None
        self._weighted = (["contact"] if contact else []) + [name for name in SHELLS if name in names]
        self._shells = [SHELLS[name] for name in self._weighted if name in SHELLS]
        self._totals = np.zeros(length)
        self.mean = np.empty((length, channels), dtype=np.float32)
        self._weighted_KLC = np.empty((len(self._weighted), length, channels), dtype=np.float32)
        self._largest = np.empty((length, channels) if "max" in names else (0, 0), dtype=np.float32)
        self._column = np.zeros((channels, length) if "column" in names else (0, 0))
        self._column_contact = np.zeros((channels, length) if "column-contact" in names else (0, 0))

    def add(self, first: int, pair_CRL: NDArray[np.float32]) -> None:
        """Read a strip of rows that begins at row `first`; every row must come once."""
        from protemb_sdk._model.pooling import mean_over_columns, neighbour_weights, read_out

        rows = slice(first, first + pair_CRL.shape[1])
        if set(self._names) <= {"mean"}:
            self.mean[rows] = mean_over_columns(pair_CRL, self._threads)
            return
        weights, self._totals[rows] = neighbour_weights(
            self._coords, rows.start, rows.stop, self._scale, self._shells, self._threads
        )
        read_out(
            pair_CRL, weights, self._totals[rows], self.mean[rows], self._weighted_KLC[:, rows],
            self._largest[rows], self._column, self._column_contact, self._threads,
        )  # fmt: skip

    def result(self) -> dict[str, NDArray[np.float32]]:
        """Return each readout, float32 (L, C), in the order asked for, once all rows were added."""
        found = {
            "mean": self.mean,
            "max": self._largest,
            **dict(zip(self._weighted, self._weighted_KLC, strict=True)),
        }
        if "column" in self._names:
            found["column"] = _as_residues(self._column / len(self._totals))
        if "column-contact" in self._names:
            # Distances are symmetric: what row j weighs in all is what column j does.
            found["column-contact"] = _as_residues(self._column_contact / self._totals)
        return {name: found[name] for name in self._names}


def _as_residues(sums_CL: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(sums_CL.T, dtype=np.float32)
