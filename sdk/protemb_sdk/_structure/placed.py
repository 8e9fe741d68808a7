"""Residues that a source lists under one number, and C-alphas that it gives no position."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._structure.atoms import ARRAYS, CA, LISTS, Stretches

# Two C-alphas that are closer are one site: those of neighbours are 2.9 to 3.8 angstrom apart.
SAME_SITE = 1.9
# Programs write 9999.000 or 999.999 for "unknown" into all three coordinates.
UNKNOWN = 999.0


def separated(found: Stretches) -> Stretches:
    """Cut stretches in which the atoms of a residue come again: neighbours of one name and number."""
    is_ca = found.atom == CA
    pairs = list(zip(found.stretch[is_ca].tolist(), found.altloc[is_ca].tolist(), strict=True))
    if len(set(pairs)) == len(pairs):
        return found
    counts = Counter(pairs)
    twice = {stretch for (stretch, _), count in counts.items() if count > 1}
    source: list[int] = []  # old stretch of each new one
    stretch = np.empty_like(found.stretch)
    rows: dict[int, list[int]] = {}
    for row, s in enumerate(found.stretch.tolist()):
        rows.setdefault(s, []).append(row)
    for s in range(len(found.chain)):
        pieces = _pieces(found, rows[s]) if s in twice else [rows.get(s, [])]
        for piece in pieces:
            stretch[piece] = len(source)
            source.append(s)
    lists: dict[str, Any] = {name: [getattr(found, name)[s] for s in source] for name in LISTS}
    return replace(found, **lists, stretch=stretch)


def _pieces(found: Stretches, rows: list[int]) -> list[list[int]]:
    """Cut before each atom that comes again; a piece whose C-alpha lies in the same site is no residue."""
    cut: list[list[int]] = [[]]
    seen: set[tuple[int, int]] = set()
    for row in rows:
        what = (int(found.atom[row]), int(found.altloc[row]))
        if what in seen:
            cut.append([])
            seen = set()
        seen.add(what)
        cut[-1].append(row)
    pieces: list[list[int]] = []
    for piece in cut:
        mine = [r for r in piece if found.atom[r] == CA]
        theirs = [r for r in pieces[-1] if found.atom[r] == CA] if pieces else []
        apart = found.position[mine][:, None] - found.position[theirs][None, :]
        with np.errstate(over="ignore", invalid="ignore"):
            is_same = bool((np.linalg.norm(apart, axis=2) < SAME_SITE).any()) if mine and theirs else not mine
        if pieces and (is_same or not theirs):
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return pieces


def without_placeholders(found: Stretches) -> tuple[Stretches, set[int]]:
    """Leave out atoms that have no position, or one that stands for none.

    These are coordinates that are no numbers, three times the same number of 999 or more, several C-alphas
    at 0, 0, 0, and C-alphas of no occupancy there or on top of each other.

    Returns
    -------
    Stretches
        Without these atoms.
    set of int
        Stretches that have a C-alpha, but none with a position.
    """
    place = found.position
    is_ca, empty = found.atom == CA, found.occupancy == 0
    gone = ~np.isfinite(place).all(axis=1)
    gone |= _is_unknown(place)
    origin = (place == 0).all(axis=1)
    if origin.any():
        at = origin & is_ca
        chain = _chain_of_atoms(found, at)
        gone[at] |= has_no_position(place[at], found.stretch[at], chain)
        gone |= empty & origin
    hollow = np.flatnonzero(is_ca & empty & ~gone)
    if len(hollow) > 1:
        _, group, count = np.unique(place[hollow], axis=0, return_inverse=True, return_counts=True)
        gone[hollow[count[group.ravel()] > 1]] = True
    if not gone.any():
        return found, set()
    unplaced = set(found.stretch[gone & is_ca].tolist()) - set(found.stretch[~gone & is_ca].tolist())
    atoms: dict[str, Any] = {name: getattr(found, name)[~gone] for name in ("stretch", *ARRAYS)}
    return replace(found, **atoms), unplaced


def _chain_of_atoms(found: Stretches, some: NDArray[np.bool_]) -> NDArray[np.int64]:
    names: dict[tuple[object, ...], int] = {}
    keys = zip(found.chain, found.segment, found.section, found.copy, found.label_chain, strict=True)
    of_stretch = np.array([names.setdefault(key, len(names)) for key in keys], dtype=np.int64)
    return of_stretch[found.stretch[some]]


def has_no_position(
    place: NDArray[np.float64], residue: NDArray[np.int64], chain: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which C-alphas bear coordinates that stand for none, shape (atoms,).

    Parameters
    ----------
    place : ndarray, float64, shape (atoms, 3)
    residue, chain : ndarray, shape (atoms,)
        The residue of each, and its chain: one residue of a chain may lie at 0, 0, 0.
    """
    found = _is_unknown(place)
    origin = np.flatnonzero((place == 0).all(axis=1))
    if len(origin) > 1:
        pairs = np.unique(np.stack([chain[origin], residue[origin]]), axis=1)
        chains, count = np.unique(pairs[0], return_counts=True)
        found[origin] |= np.isin(chain[origin], chains[count > 1])
    return found


def _is_unknown(place: NDArray[np.float64]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (
        (place[:, 0] == place[:, 1]) & (place[:, 1] == place[:, 2]) & (np.abs(place[:, 0]) >= UNKNOWN)
    )
    return found
