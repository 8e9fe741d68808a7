"""Networks with a single representation: one run for a chain that fits, several passes over strips otherwise.

At each exchange the state of a residue is read from means of the whole map. In strips these are made first:
a pass over all strips for each exchange, and one for the means of the last map (export/README.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.limits import Budget
from protemb_sdk._model.runtime import CPU
from protemb_sdk._model.strips import KEPT, Feeds, MapReader, Pooled, maps_at_once, plan_rows

if TYPE_CHECKING:
    from protemb_sdk._model.models import GraphInfo
    from protemb_sdk._model.session import Session

MEANS = ("mean", "column", "contact", "column-contact")
"""Readouts that are in the means of the last map, in the order of their channels."""


def run_passes(
    session: Session[GraphInfo],
    feeds: Feeds,
    ca_coords: Sequence[NDArray[np.float64]],
    memory_limit: int,
    pair: bool,
    readouts: tuple[str, ...],
    profile: bool = False,
    budget: Budget | None = None,
    residue: bool = True,
) -> list[Pooled]:
    """Run a graph of contract 2, and put embeddings, readouts and pair maps together.

    Parameters
    ----------
    session : Session
        Of an embedding graph.
    feeds : mapping of str to ndarray
        Its inputs, of chains of one length or padded to one; a map of padded chains must fit in memory.
    ca_coords : sequence of ndarray, float64, shape (L, 3)
        C-alpha coordinates of those chains, without the padding, in angstrom.
    memory_limit : int
        Bytes that a run may take.
    pair : bool
        Whether the maps are wanted.
    readouts : tuple of str
        Readouts that are wanted.
    profile : bool, default False
        Whether the profile is wanted.
    budget : Budget, optional
        As in `Session.run`.
    residue : bool, default True
        Whether residue embeddings are wanted; otherwise they have width 0.

    Returns
    -------
    list of Pooled
        One a chain.
    """
    info, length, chains = session.info, feeds["ca_coords"].shape[1], len(ca_coords)
    end = len(info.radii) - 1
    means_of = [name for name in readouts if name in MEANS]
    others = tuple(name for name in readouts if name not in MEANS)
    reader = MapReader(others, ca_coords, length, info.channels, session.threads, pair)
    of_residues = [*(["residue"] if residue else []), "protein", *(["profile"] if profile else [])]
    # Another session, that of usual outputs, may keep memory meanwhile.
    less = int(memory_limit * (1 - KEPT))
    room = memory_limit if of_residues == ["residue", "protein"] and not reader.outputs else less
    maps = maps_at_once(info, bool(reader.outputs) or session.provider != CPU)
    whole = plan_rows(length, info.channels, info.radius, room, chains, maps)
    if len(whole.rows) == 1:
        outputs = [*of_residues, *([f"strip_means_{end}"] if means_of else []), *reader.outputs]
        found = dict(zip(outputs, session.run(outputs, feeds, whole.keep, budget), strict=True))
        if "pair" in found:
            reader.add(0, found["pair"])
        means = found.get(f"strip_means_{end}")
    else:
        given: dict[str, NDArray[Any]] = {}
        # Without anything of the last map, protein vector and profile need the means of the exchanges alone.
        for k in range(end + 1 if residue or means_of or reader.outputs else end):
            strips = plan_rows(length, info.channels, info.radii[k], less, chains, maps)
            outputs = [f"strip_means_{k}", *(reader.outputs if k == end else [])]
            halo = {"halo": np.array(info.radii[k], dtype=np.int64)}
            total = np.zeros((chains, length, 4 * info.channels + 1))
            # The states of residues do not depend on the strip.
            run = session.prepared(outputs, {**feeds, **given, **halo}, ["rows"], budget)
            for first, past in strips.rows:
                keep = past < length  # maps of the next pass are of another size
                part, *pair_BCRL = run({"rows": np.array([first, past], dtype=np.int64)}, keep)
                total += part
                if pair_BCRL:
                    reader.add(first, pair_BCRL[0])
            given[f"means_{k}"] = total.astype(np.float32)
        one = {"rows": np.array([0, 1], dtype=np.int64), "halo": np.array(0, dtype=np.int64)}
        results = session.run(of_residues, {**feeds, **given, **one}, False, budget)
        found, means = dict(zip(of_residues, results, strict=True)), given.get(f"means_{end}")
    pooled = []
    for number, coords in enumerate(ca_coords):
        own = slice(len(coords))  # without the padding
        read, pair_CLL = reader.of(number)
        if means is not None:
            read |= _readouts(means[number][own], info.channels)
        pooled.append(
            Pooled(
                residue=found["residue"][number][own] if residue else np.empty((len(coords), 0), np.float32),
                protein=found["protein"][number],
                readouts={name: read[name] for name in readouts},
                pair=pair_CLL,
                profile=found["profile"][number][own] if profile else None,
            )
        )
    return pooled


def _readouts(means_LM: NDArray[np.float32], channels: int) -> dict[str, NDArray[np.float32]]:
    """Return the four readouts, each (L, C); the last of them is divided by its sum of weights here."""
    parts = np.split(means_LM, [channels * k for k in range(1, 5)], axis=1)
    *done, numerator, total = parts
    arrays = [*done, numerator / total]
    return {name: np.ascontiguousarray(array) for name, array in zip(MEANS, arrays, strict=True)}
