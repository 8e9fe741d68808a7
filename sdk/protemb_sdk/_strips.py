"""Long chains: how many rows of the pair map are computed at a time, and how the strips are pooled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._readouts import ReadoutPool

if TYPE_CHECKING:
    from protemb_sdk._models import GraphInfo
    from protemb_sdk._session import Session

# Pair maps of C float32 channels that a session holds at its peak, features and residual stream at once:
# 5.2 are measured (benchmarks/test_memory.py), and a limit is a limit.
MAPS_AT_ONCE = 6

# Features are no narrower where the network is.
LEAST_CHANNELS = 64

# Share of the memory limit that a session keeps between chains.
KEPT = 1 / 4

Feeds = Mapping[str, NDArray[Any]]


class Strips(NamedTuple):
    """How a map is computed.

    Parameters
    ----------
    rows : list of tuple of int
        (first, past) of consecutive strips, in order, nearly equal with their halos.
    keep : bool
        Whether they take so little memory that it may be kept for the next chain.
    """

    rows: list[tuple[int, int]]
    keep: bool


def plan_rows(length: int, channels: int, radius: int, memory_limit: int) -> Strips:
    """Return strips that cover all rows.

    A strip is computed together with a halo of `radius` rows on either side, which the graph adds and
    cuts off itself, so results do not depend on the plan.

    Parameters
    ----------
    length : int
        Residues of the chain.
    channels, radius : int
        Of the graph.
    memory_limit : int
        Bytes that a run may take. Strips are not planned thinner than the halo is wide, so for very
        long chains more may be needed.

    Returns
    -------
    Strips
    """
    bytes_per_row = 4 * max(channels, LEAST_CHANNELS) * length * MAPS_AT_ONCE
    # A strip of a chain shorter than two halos would need all the other rows too.
    if bytes_per_row * length <= memory_limit or length <= 2 * radius:
        return Strips([(0, length)], keep=bytes_per_row * length <= KEPT * memory_limit)
    rows = max(memory_limit // bytes_per_row - 2 * radius, radius, 1)
    # Those at the ends have one halo and are thicker by the other: maps of one size, or a row less later on,
    # find room in the memory of those before.
    inner = length - 2 * radius
    count = -(-inner // rows)
    thin, thicker = divmod(inner, count)
    borders = [0, *(radius + k * thin + min(k, thicker) for k in range(1, count)), length]
    return Strips(list(zip(borders[:-1], borders[1:], strict=True)), keep=False)


def run_strips(
    session: Session[GraphInfo],
    feeds: Feeds,
    ca_coords: NDArray[np.float64],
    strips: Strips,
    pair: bool,
    readouts: tuple[str, ...],
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]], NDArray[np.float32] | None]:
    """Run the graph strip by strip, and put residue embeddings, readouts and pair map together.

    Residue embeddings are the graph's own means, always; the map leaves the session, and Numba is loaded,
    only for what cannot be had without.

    Returns
    -------
    residue : ndarray, float32, shape (L, C)
    readouts : dict of str to ndarray, float32, shape (L, C)
    pair : ndarray, float32, shape (C, L, L), or None
    """
    length, channels = len(ca_coords), session.info.channels
    wanted = tuple(name for name in readouts if name != "mean")
    pool = ReadoutPool(wanted, ca_coords, channels, session.threads)
    outputs = ["residue", "pair"] if pair or wanted else ["residue"]
    several = len(strips.rows) > 1
    whole = np.empty((channels, length, length), dtype=np.float32) if pair and several else None
    parts = []
    for number, (first, past) in enumerate(strips.rows, start=1):
        window = {"rows": np.array([first, past], dtype=np.int64)}
        keep = strips.keep or number < len(strips.rows)
        residue, *maps = session.run(outputs, {**feeds, **window}, keep)
        parts.append(residue[0])
        for (pair_CRL,) in maps:
            if wanted:
                pool.add(first, pair_CRL)
            if whole is not None:
                whole[:, first:past] = pair_CRL
            elif pair:
                whole = pair_CRL
    residue_LC = np.concatenate(parts)
    read = {**pool.result(), "mean": residue_LC}
    return residue_LC, {name: read[name] for name in readouts}, whole
