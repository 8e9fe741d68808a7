"""Targets of the probes: labels per residue, from C-alpha coordinates and residue types."""

from __future__ import annotations

from dataclasses import dataclass

import biotite.structure as struc
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from protemb_sdk import ALPHABET
from protemb_sdk._structure.chain import BREAK_DISTANCE
from protemb_train.corpus.corpus import Trace

HSE_RADIUS = 13.0  # Hamelryck 2005
NEIGHBOUR_RADIUS = 10.0


@dataclass(frozen=True, slots=True)
class Task:
    """One label and its evaluation.

    Parameters
    ----------
    name : str
        Key of the label.
    title : str
        Heading of its table.
    classes : int
        Number of classes; 0 for a quantity.
    """

    name: str
    title: str
    classes: int = 0


TASKS = (
    Task("secondary_structure", "Secondary structure (P-SEA: helix, strand, coil)", 3),
    Task("residue_type", "Residue type (20, hidden from the network)", 20),
    Task("exposure", f"Half-sphere exposure (HSE-alpha up, {HSE_RADIUS:g} angstrom)"),
    Task("neighbours", f"Neighbours (C-alphas within {NEIGHBOUR_RADIUS:g} angstrom)"),
    Task("position", "Position along the chain (i / L; lower is better)"),
)


def broken_after(ca_coords: NDArray[np.floating], residue_index: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether the chain is broken between a residue and the next, shape (L - 1,).

    Detected by residue index (missing residues) or distance: author numbers may be continuous across a break.
    """
    steps = np.linalg.norm(np.diff(ca_coords, axis=0), axis=1)
    return np.asarray((np.diff(residue_index) != 1) | (steps > BREAK_DISTANCE))


def secondary_structure(
    ca_coords: NDArray[np.floating], residue_index: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return P-SEA's classes (Labesse 1997, as in Biotite): 0 helix, 1 strand, 2 coil, shape (L,).

    P-SEA needs only a C-alpha trace. Biotite detects breaks by residue numbers, so these are changed to have
    a gap at every break of `broken_after`.
    """
    atoms = struc.AtomArray(len(ca_coords))
    atoms.coord = np.asarray(ca_coords, dtype=np.float32)
    atoms.atom_name[:], atoms.res_name[:], atoms.chain_id[:] = "CA", "ALA", "A"
    jump = np.where(broken_after(ca_coords, residue_index), 2, 1)
    atoms.res_id = np.concatenate([[1], 1 + np.cumsum(jump)])
    found = struc.annotate_sse(atoms)
    return np.array(["abc".index(letter) for letter in found], dtype=np.int64)


def half_sphere_exposure(
    ca_coords: NDArray[np.floating], residue_index: NDArray[np.int64], radius: float = HSE_RADIUS
) -> NDArray[np.float64]:
    """Return HSE-alpha up (Hamelryck 2005, doi:10.1002/prot.20379), shape (L,).

    C-alphas within `radius` on the side-chain side of the plane through C-alpha; the direction of the side
    chain is the bisector of the directions from both neighbours. NaN at chain ends and breaks, where it is
    undefined.
    """
    ca = np.asarray(ca_coords, dtype=np.float64)
    step = np.diff(ca, axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    linked = ~broken_after(ca, residue_index)
    inner = np.flatnonzero(linked[:-1] & linked[1:]) + 1
    side_chain = step[inner - 1] - step[inner]
    seen = ca[None, :, :] - ca[inner, None, :]
    up = np.einsum("ijk,ik->ij", seen, side_chain) > 0  # excludes the residue itself
    close = np.linalg.norm(seen, axis=-1) < radius
    exposure = np.full(len(ca), np.nan)
    exposure[inner] = (up & close).sum(axis=1)
    return exposure


def neighbour_count(ca_coords: NDArray[np.floating], radius: float = NEIGHBOUR_RADIUS) -> NDArray[np.float64]:
    """Return the number of other C-alphas within `radius` of each, shape (L,)."""
    return np.asarray(np.sum(cdist(ca_coords, ca_coords) < radius, axis=1) - 1.0)


def labels(trace: Trace) -> dict[str, NDArray[np.float64]]:
    """Return the labels of one chain by name of the task, each of shape (L,); NaN where undefined."""
    length = len(trace.residue_type)
    known = trace.residue_type != ALPHABET.index("X")
    return {
        "secondary_structure": secondary_structure(trace.ca_coords, trace.residue_index).astype(np.float64),
        "residue_type": np.where(known, trace.residue_type, np.nan),
        "exposure": half_sphere_exposure(trace.ca_coords, trace.residue_index),
        "neighbours": neighbour_count(trace.ca_coords),
        "position": np.arange(length) / length,
    }
