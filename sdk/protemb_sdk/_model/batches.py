"""Chains through the graph in batches: of one length, or padded to one where the graph takes lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError, StructureError
from protemb_sdk._base.limits import Budget
from protemb_sdk._model.bound import MOST_SHAPES
from protemb_sdk._model.passes import run_passes
from protemb_sdk._model.plan import padded_feeds, shared_length
from protemb_sdk._model.runtime import CPU
from protemb_sdk._model.strips import (
    MAPS_WITH_STATES,
    Pooled,
    limit_on_cuda,
    map_bytes,
    maps_at_once,
    plan_batches,
    plan_rows,
    run_strips,
)
from protemb_sdk._structure.chain import Chain

if TYPE_CHECKING:
    from protemb_sdk._model.models import GraphInfo
    from protemb_sdk._model.session import Session

# No chain is this wide; beyond it float32 distances lose the hundredth of an angstrom.
MOST_ANGSTROM = 1e5


def feeds_of(chain: Chain) -> dict[str, NDArray[Any]]:
    """Return a chain as the graphs take it.

    Raises
    ------
    StructureError
        If its coordinates cannot be in angstrom.
    """
    centred = chain.centred_coords
    if not np.abs(centred).max() <= MOST_ANGSTROM:  # not ">": a mean may overflow
        raise StructureError(
            f"coordinates lie more than {MOST_ANGSTROM:g} angstrom from their centre; are they in angstrom?",
            chain.id,
        )
    return {
        "ca_coords": centred.astype(np.float32)[None],
        "residue_type": chain.residue_type[None],
        "residue_index": chain.residue_index[None],
    }


def length_in_batch(session: Session[GraphInfo], residues: int) -> int:
    """Return the length that a chain has in a batch; chains for which it is equal can share one."""
    return shared_length(residues) if session.takes_lengths else residues


def pool_alike(
    session: Session[GraphInfo],
    chains: Sequence[Chain],
    memory_limit: int,
    pair: bool,
    readouts: tuple[str, ...],
    seconds: float | None = None,
    profile: bool = False,
    residue: bool = True,
) -> list[Pooled]:
    """Run chains that share a batch, as few batches as the memory allows; a long chain goes in strips.

    Parameters
    ----------
    session : Session
        Of an embedding graph.
    chains : sequence of Chain
        Of one `length_in_batch`.
    memory_limit : int
        Bytes that a run may take.
    pair, readouts
        As in `run_strips`.
    seconds : float, optional
        That a batch may take in the session.
    profile : bool, default False
        Whether profiles are wanted, which graphs of contract 2 give.
    residue : bool, default True
        Whether residue embeddings are wanted; otherwise they have width 0.

    Returns
    -------
    list of Pooled
        One a chain, in order.

    Raises
    ------
    EmbeddingError
        If lengths differ, memory or time runs out, or a result is not finite.
    StructureError
        Of `feeds_of`.
    """
    lengths = {length_in_batch(session, len(chain)) for chain in chains}
    if len(lengths) > 1:
        raise EmbeddingError(
            f"chains of {min(map(len, chains))} and {max(map(len, chains))} residues cannot share a batch: "
            "padding would change them; pass chains of one length"
        )
    found: list[Pooled] = []
    maps = maps_at_once(session.info, pair or bool(readouts) or session.provider != CPU)
    if session.provider != CPU:
        memory_limit = limit_on_cuda(memory_limit, session.info.channels, maps)
    for length in lengths:
        shapes = None if session.fixed is None else MOST_SHAPES
        borders = plan_batches(len(chains), length, session.info.channels, memory_limit, maps, shapes=shapes)
        for first, past in zip(borders[:-1], borders[1:], strict=True):
            some = chains[first:past]
            found += _batch(session, some, memory_limit, pair, readouts, seconds, profile, residue)
    for chain, pooled in zip(chains, found, strict=True):
        if not (np.isfinite(pooled.residue).all() and np.isfinite(pooled.protein).all()):
            raise EmbeddingError("the network's result is not finite; please report this structure", chain.id)
    return found


def _batch(
    session: Session[GraphInfo],
    chains: Sequence[Chain],
    memory_limit: int,
    pair: bool,
    readouts: tuple[str, ...],
    seconds: float | None,
    profile: bool,
    residue: bool,
) -> list[Pooled]:
    each, info = [feeds_of(chain) for chain in chains], session.info
    length = length_in_batch(session, len(chains[0]))
    bytes_of_map = map_bytes(length, length, info.channels, MAPS_WITH_STATES)
    fixed = session.fixed is not None and bytes_of_map <= memory_limit // MOST_SHAPES
    if fixed or len({len(chain) for chain in chains}) > 1:
        feeds = padded_feeds(each, length)
    else:
        feeds = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
        length = len(chains[0])
    coords, budget = [chain.ca_coords for chain in chains], Budget.of(seconds)
    try:
        if info.has_states:
            return run_passes(session, feeds, coords, memory_limit, pair, readouts, profile, budget, residue)
        strips = plan_rows(length, info.channels, info.radius, memory_limit, len(chains))
        found = run_strips(session, feeds, coords, strips, pair, readouts, budget)
        return (
            found
            if residue
            else [replace(pooled, residue=np.empty((len(pooled.residue), 0), np.float32)) for pooled in found]
        )
    except EmbeddingError as error:
        raise error.at(chains[0].id) from error
    except MemoryError as error:
        raise EmbeddingError(
            f"{length} residues need more memory than there is", chains[0].id, retryable=True
        ) from error
