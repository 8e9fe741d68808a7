"""Coordinates, a sequence and residue indices, checked, as the fields of a chain."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import StructureError
from protemb_sdk._structure.constants import ALPHABET, BREAK_DISTANCE
from protemb_sdk._structure.foreign import array_of, said
from protemb_sdk._structure.placed import UNKNOWN, has_no_position

# Half a virtual bond: no chain in angstrom is as tight, one in nanometres is tighter.
SHORTEST_STEP = 1.9


def fields_of_arrays(
    coordinates: object, sequence: object, residue_index: object | None, name: str
) -> dict[str, Any]:
    """Return the fields of `Chain` but for its names; see `Chain.from_arrays`.

    Raises
    ------
    StructureError
        If the arrays do not fit together, or are no numbers.
    """
    if not isinstance(sequence, str):
        raise StructureError(
            f"the sequence must be a str of one-letter codes, not {type(sequence).__name__}", name
        )
    what = "coordinates and residue_index"
    coords = array_of(coordinates, name, what)
    try:
        if coords.dtype.kind == "c":  # NumPy would take the real part
            raise ValueError("they are complex")
        coords = coords.astype(np.float64)  # a copy
    except (TypeError, ValueError) as error:
        raise StructureError(f"{what} must be numbers ({said(error)})", name) from error
    given = np.arange(len(sequence)) if residue_index is None else array_of(residue_index, name, what)
    letters = "".join(c.upper() if c.isascii() else "X" for c in sequence)
    length = len(letters)
    if given.shape != (length,) or given.dtype.kind not in "iu":
        raise StructureError(f"residue_index must hold one integer for each of {length} residues", name)
    given = given.astype(np.int64)
    ends = [abs(int(given[0])), abs(int(given[-1])), int(given[-1]) - int(given[0])] if length else []
    if (np.diff(given) < 1).any() or max(ends, default=0) > 2**31 - 2:
        raise StructureError("residue_index must increase strictly and fit into 32 bits", name)
    number = (given + 1).astype(np.int32)
    residue_name = np.array([_three_letters(c) for c in letters], dtype="U3")
    kept, notes = _placed(coords, number, residue_name, name)
    letters, length = "".join(letters[i] for i in kept), len(kept)
    coords, given = coords[kept] if notes else coords, given[kept]
    return {
        "ca_coords": coords,
        "sequence": "".join(c if c in ALPHABET else "X" for c in letters),
        "residue_index": given - given[0] if length else given,
        "auth_seq": number[kept],
        "insertion_code": np.full(length, "", dtype="U1"),
        "label_seq": np.full(length, -1, dtype=np.int32),
        "residue_name": residue_name[kept],
        "notes": (*notes, *_doubts(coords, given)),
    }


def _placed(
    coords: NDArray[np.float64], number: NDArray[np.int32], residue_name: NDArray[np.str_], name: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the residues that have a position, and a note on the others.

    Raises
    ------
    StructureError
        If no residue has a position.
    """
    every = np.arange(len(number))
    if coords.shape != (len(number), 3):
        return every, ()
    gone = np.isnan(coords).any(axis=1) | has_no_position(coords, every, np.zeros_like(every))
    if not gone.any():
        return every, ()
    if gone.all():
        raise StructureError(
            "no residue has a position: the coordinates are NaN, masked, several at 0, 0, 0, "
            f"or three times the same number of {UNKNOWN:g} or more",
            name,
        )
    lost = np.flatnonzero(gone)
    shown = ", ".join(f"{residue_name[i]} {number[i]}" for i in lost[:3]) + (", ..." if len(lost) > 3 else "")
    count = "1 residue" if len(lost) == 1 else f"{len(lost)} residues"
    return np.flatnonzero(~gone), (f"{count} without a position left out: {shown}",)


def _doubts(coords: NDArray[np.float64], index: NDArray[np.int64]) -> tuple[str, ...]:
    """Return notes on arrays that are probably not what they were taken for."""
    if coords.ndim != 2 or len(coords) < 2:
        return ()
    with np.errstate(invalid="ignore", over="ignore"):
        step = np.linalg.norm(np.diff(coords, axis=0), axis=1)
    notes = []
    if np.median(step) < SHORTEST_STEP:
        notes.append(
            f"consecutive C-alphas lie {np.median(step):.2g} angstrom apart, not 3.8: are these nanometres?"
        )
    gaps = int(((step > BREAK_DISTANCE) & (np.diff(index) == 1)).sum()) if len(index) == len(coords) else 0
    if gaps:
        notes.append(
            f"the chain is broken {gaps} times without a gap in its residue_index; pass (coordinates, "
            "sequence, residue_index) to say how many residues are missing"
        )
    return tuple(notes)


@lru_cache(maxsize=64)
def _three_letters(letter: str) -> str:
    import gemmi

    return gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) or "UNK"
