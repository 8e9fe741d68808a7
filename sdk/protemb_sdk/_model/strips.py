"""Long chains: how many rows of the pair map are computed at a time, and how the strips are pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.limits import Budget
from protemb_sdk._model.bound import power_of_two
from protemb_sdk._model.readouts import ReadoutPool
from protemb_sdk._model.residue import mean_over_rows

if TYPE_CHECKING:
    from protemb_sdk._model.models import GraphInfo
    from protemb_sdk._model.session import Session

# Pair maps of C float32 channels that a session holds at its peak, features and residual stream at once:
# 5.2 are measured (benchmarks/test_memory.py), and a limit is a limit.
MAPS_AT_ONCE = 6
# The same in contract 2 with the output `pair`, and on devices other than a CPU; without, 5.2 are measured.
MAPS_WITH_STATES = 7.5
# The same if the map is in 8-bit integers, of which 1.4 are measured; and what the float32 output takes.
MAPS_OF_INTEGERS, MAP_AS_OUTPUT = 2.0, 1.5

# Features are no narrower where the network is.
LEAST_CHANNELS = 64

# Numbers in an array that kernels of ONNX Runtime for CUDA can address (microsoft/onnxruntime issue 28107).
# In graphs for GPUs the widest array has the nine neighbours of each pair, in at most C channels.
MOST_ON_CUDA, NEIGHBOURS = 2**31, 9

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


def maps_at_once(info: GraphInfo, pair: bool = True) -> float:
    """Return the pair maps that a session holds at its peak, if the output `pair` is wanted or not."""
    if not info.has_states:
        return MAPS_AT_ONCE
    if info.has_integers:
        return MAPS_OF_INTEGERS + (MAP_AS_OUTPUT if pair else 0)
    return MAPS_WITH_STATES if pair else MAPS_AT_ONCE


def map_bytes(length: int, rows: int, channels: int, maps: float = MAPS_AT_ONCE) -> int:
    """Return what some rows of a chain's map take in a session at its peak."""
    return int(4 * max(channels, LEAST_CHANNELS) * length * rows * maps)


def limit_on_cuda(memory_limit: int, channels: int, maps: float = MAPS_AT_ONCE) -> int:
    """Return a memory limit below which no array of a graph for GPUs is too large for CUDA."""
    return min(memory_limit, map_bytes(MOST_ON_CUDA // (NEIGHBOURS * channels), 1, channels, maps))


def plan_batches(
    chains: int,
    length: int,
    channels: int,
    memory_limit: int,
    maps: float = MAPS_AT_ONCE,
    *,
    shapes: int | None = None,
) -> list[int]:
    """Return borders between batches of chains of one length, as few as the memory allows, nearly equal.

    If the session keeps the memory of several `shapes`, each has its part of `memory_limit`, and the number
    of chains in a batch is at most a power of two, to which `FixedShapes` rounds up.
    """
    at_once = max(memory_limit // (shapes or 1) // map_bytes(length, length, channels, maps), 1)
    if shapes is not None:
        at_once = power_of_two(at_once)
    count = -(-chains // at_once)
    return [chains * k // count for k in range(count + 1)]


def plan_rows(
    length: int,
    channels: int,
    radius: int,
    memory_limit: int,
    chains: int = 1,
    maps: float = MAPS_AT_ONCE,
) -> Strips:
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
    chains : int, default 1
        Chains of that length in a batch of `plan_batches`.
    maps : float, optional
        Pair maps that a session holds at its peak.

    Returns
    -------
    Strips
    """
    bytes_per_row = map_bytes(length, 1, channels, maps)
    # A strip of a chain shorter than two halos would need all the other rows too.
    if bytes_per_row * length <= memory_limit or length <= 2 * radius:
        return Strips([(0, length)], keep=chains * bytes_per_row * length <= KEPT * memory_limit)
    rows = max(memory_limit // bytes_per_row - 2 * radius, radius, 1)
    # Those at the ends have one halo and are thicker by the other: maps of one size, or a row less later on,
    # find room in the memory of those before.
    inner = length - 2 * radius
    count = -(-inner // rows)
    thin, thicker = divmod(inner, count)
    borders = [0, *(radius + k * thin + min(k, thicker) for k in range(1, count)), length]
    return Strips(list(zip(borders[:-1], borders[1:], strict=True)), keep=False)


@dataclass(frozen=True, slots=True)
class Pooled:
    """What is wanted of one chain.

    Parameters
    ----------
    residue : ndarray, float32, shape (L, width of residue)
    protein : ndarray, float32, shape (width of protein,)
    readouts : dict of str to ndarray, float32, shape (L, C)
    pair : ndarray, float32, shape (C, L, L), or None
    profile : ndarray, float32, shape (L, 20), or None
    """

    residue: NDArray[np.float32]
    protein: NDArray[np.float32]
    readouts: dict[str, NDArray[np.float32]]
    pair: NDArray[np.float32] | None
    profile: NDArray[np.float32] | None = None


class MapReader:
    """Pair maps of chains of one batch, and readouts out of them, as their strips come.

    Maps of padded chains come whole, and are cut to the length of each chain.

    Numba is loaded only for readouts; where neither they nor maps are wanted, the map need not leave the
    session.

    Parameters
    ----------
    names : tuple of str
        Readouts wanted.
    ca_coords : sequence of ndarray, float64, shape (L, 3)
        C-alpha coordinates of the chains, in angstrom.
    length : int
        L of the batch.
    channels : int
        C of the map.
    threads : int
        Threads to use at the most.
    pair : bool
        Whether the maps are wanted.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        ca_coords: Sequence[NDArray[np.float64]],
        length: int,
        channels: int,
        threads: int,
        pair: bool,
    ) -> None:
        self._length, self._channels = length, channels
        self._lengths = [len(coords) for coords in ca_coords]
        self._pools = [ReadoutPool(names, coords, channels, threads) for coords in ca_coords] if names else []
        self._chains, self._pair = len(ca_coords), pair
        self._maps: list[NDArray[np.float32]] = []

    @property
    def outputs(self) -> list[str]:
        """What of the graph's outputs is needed."""
        return ["pair"] if self._pair or self._pools else []

    def add(self, first: int, pair_BCRL: NDArray[np.float32]) -> None:
        """Read a strip of rows that begins at row `first`; every row must come once."""
        rows = pair_BCRL.shape[2]
        maps = list(pair_BCRL)
        if rows == self._length:
            maps = [
                pair_CLL if n == rows else np.ascontiguousarray(pair_CLL[:, :n, :n])
                for pair_CLL, n in zip(maps, self._lengths, strict=True)
            ]
        for pool, pair_CRL in zip(self._pools, maps, strict=False):
            pool.add(first, pair_CRL)
        if not self._pair:
            return
        if rows == self._length:
            self._maps = maps
            return
        shape = (self._channels, self._length, self._length)
        self._maps = self._maps or [np.empty(shape, dtype=np.float32) for _ in range(self._chains)]
        for whole, pair_CRL in zip(self._maps, pair_BCRL, strict=True):
            whole[:, first : first + rows] = pair_CRL

    def of(self, chain: int) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32] | None]:
        """Return readouts and map of a chain, once all rows were added."""
        readouts = self._pools[chain].result() if self._pools else {}
        return readouts, self._maps[chain] if self._pair else None


def run_strips(
    session: Session[GraphInfo],
    feeds: Feeds,
    ca_coords: Sequence[NDArray[np.float64]],
    strips: Strips,
    pair: bool,
    readouts: tuple[str, ...],
    budget: Budget | None = None,
) -> list[Pooled]:
    """Run a graph of contract 1 strip by strip, and put embeddings, readouts and pair maps together.

    Residue embeddings are the graph's own means, always.

    Parameters
    ----------
    session : Session
        Of an embedding graph.
    feeds : mapping of str to ndarray
        Its inputs but `rows`, of chains of one length.
    ca_coords : sequence of ndarray, float64, shape (L, 3)
        C-alpha coordinates of those chains, in angstrom.
    strips : Strips
        Of `plan_rows`.
    pair : bool
        Whether the maps are wanted.
    readouts : tuple of str
        Readouts that are wanted.
    budget : Budget, optional
        As in `Session.run`.

    Returns
    -------
    list of Pooled
        One a chain.
    """
    wanted = tuple(name for name in readouts if name != "mean")
    length = len(ca_coords[0])
    reader = MapReader(wanted, ca_coords, length, session.info.channels, session.threads, pair)
    means: list[NDArray[np.float32]] = []
    for number, (first, past) in enumerate(strips.rows, start=1):
        window = {"rows": np.array([first, past], dtype=np.int64)}
        keep = strips.keep or number < len(strips.rows)
        mean_BRC, *pair_BCRL = session.run(["residue", *reader.outputs], {**feeds, **window}, keep, budget)
        means.append(mean_BRC)
        if pair_BCRL:
            reader.add(first, pair_BCRL[0])
    found = []
    for number, residue in enumerate(np.concatenate(means, axis=1)):
        read, whole = reader.of(number)
        read["mean"] = residue
        chosen = {name: read[name] for name in readouts}
        found.append(Pooled(residue, mean_over_rows(residue), chosen, whole))
    return found
