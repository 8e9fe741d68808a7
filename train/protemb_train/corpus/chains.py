"""Suitable chains of a structure file for the corpus, and the reasons for excluding others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import Chain, ProtembError, Skipped
from protemb_sdk._base.folders import stem
from protemb_sdk._structure.chain import BREAK_DISTANCE
from protemb_sdk._structure.files import load, read_stretches
from protemb_sdk._structure.reader import SHORTEST_STEP, chains_of_stretches

_PDB_CODE = re.compile(r"(?:pdb)?([1-9][a-z0-9]{3}|pdb_[0-9a-z]{8})", re.IGNORECASE)

# Limits for broken chains and placeholder coordinates; a few are normal in real chains.
LARGEST_SHARE_OF_CLASHES = 0.1
LARGEST_SHARE_OF_BREAKS = 0.5
LONGEST_STEP = 1000.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Criteria for chains.

    Parameters
    ----------
    min_length, max_length : int
        Range of the number of residues with coordinates.
    max_unknown : float
        Largest share of residues of unknown type (X). MMseqs2 finds no relatives of unknown sequences, so
        such chains would pass every filter.
    """

    min_length: int = 25
    max_length: int = 2000
    max_unknown: float = 0.2


@dataclass(frozen=True, slots=True)
class Skip:
    """A file or chain that is excluded from the corpus.

    Parameters
    ----------
    path, chain : str
        The file, and the author name of the chain; empty if the whole file was skipped.
    kind : str
        Short reason, used as a category in the report.
    reason : str
        The reason in one sentence.
    """

    path: str
    chain: str
    kind: str
    reason: str


def read_file(path: Path, limits: Limits) -> tuple[list[dict[str, Any]], list[Skip]]:
    """Read every suitable chain of a structure file.

    Returns
    -------
    rows : list of dict
        A corpus row for each chain, and its `entity` (`label_entity_id`, empty for PDB files).
    skips : list of Skip
        The file, or every other chain, with a reason.
    """
    where = str(path)
    try:
        found = read_stretches(load(path, where), where, 1)
        entity_of = found.entities
        name = _name(found.entry, path)
        read = chains_of_stretches(found, name, name, min_residues=1)
    except ProtembError as error:
        return [], [Skip(where, "", "unreadable file", error.problem)]
    rows, skips = [], [_passed_over(where, skipped) for skipped in read.skipped]
    for chain in read.chains:
        fault = _fault(chain, limits)
        if fault is None:
            entity = entity_of.get(chain.label_chain, "") if chain.label_chain else ""
            rows.append({**_row(chain), "entity": entity})
        else:
            skips.append(Skip(where, chain.chain_id or " ", *fault))
    if not read.chains and not read.skipped:
        skips.append(Skip(where, "", "unreadable file", "contains no chain"))
    return rows, skips


def _name(entry: str, path: Path) -> str:
    """Return the PDB code in a file, else the one in its name, else its name."""
    for name in (entry.strip(), stem(path)):
        if code := _PDB_CODE.fullmatch(name):
            return code[1].upper()
    return stem(path)


def _passed_over(where: str, skipped: Skipped) -> Skip:
    kind = "not protein" if skipped.error is None else "bad coordinates"
    return Skip(where, skipped.chain_id, kind, skipped.reason)


def _fault(chain: Chain, limits: Limits) -> tuple[str, str] | None:
    """Return the reason for excluding a chain, as a category and as a sentence."""
    length, unknown = len(chain), chain.sequence.count("X") / len(chain)
    if length < limits.min_length:
        return "too short", f"has {length} residues with a C-alpha, fewer than {limits.min_length}"
    if length > limits.max_length:
        return "too long", f"has {length} residues with a C-alpha, more than {limits.max_length}"
    if unknown > limits.max_unknown:
        return "unknown residues", f"{unknown:.0%} of its residues are of unknown type"
    return _bad_coordinates(chain.ca_coords)


def _bad_coordinates(ca_coords: NDArray[np.float64]) -> tuple[str, str] | None:
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.linalg.norm(np.diff(ca_coords, axis=0), axis=1)
    close, broken = float((step < SHORTEST_STEP).mean()), float((step > BREAK_DISTANCE).mean())
    why = None
    if close > LARGEST_SHARE_OF_CLASHES:
        why = f"{close:.0%} of its neighbouring C-alphas lie within {SHORTEST_STEP} angstrom of each other"
    elif broken > LARGEST_SHARE_OF_BREAKS:
        why = f"{broken:.0%} of its neighbouring C-alphas lie more than {BREAK_DISTANCE} angstrom apart"
    elif not (step <= LONGEST_STEP).all():
        why = f"two neighbouring C-alphas lie {step.max():.3g} angstrom apart"
    return ("bad coordinates", why) if why else None


def _row(chain: Chain) -> dict[str, Any]:
    return {
        "id": chain.id,
        "sequence": chain.sequence,
        "ca": chain.centred_coords.astype(np.float32).ravel(),
        "residue_index": chain.residue_index.astype(np.int32),
        "cluster": -1,
    }
