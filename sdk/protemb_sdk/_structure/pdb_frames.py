"""Which atom lines of a PDB file are one model: MODEL, ENDMDL, END and TER as programs really write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._structure.atoms import about_model

Lines = NDArray[np.int64]
Bytes = NDArray[np.uint8]

FOLD = 0xDFDFDFDF
"""Lower case to upper case, and a blank to zero, in the first four columns of a line as one number."""


def word(name: bytes) -> int:
    """Return four letters as the number that the first four columns of a line are."""
    return int.from_bytes(name, "little") & FOLD


_MODEL, _ENDMDL = word(b"MODE"), word(b"ENDM")
_END, _TER = (word(b"END "), word(b"END\n")), (word(b"TER "), word(b"TER\n"))


@dataclass(slots=True)
class Frame:
    """The atom lines of one model.

    Attributes
    ----------
    lines : ndarray
        Numbers of the lines.
    section : ndarray
        For each of them, which of several files that were concatenated it is from.
    part : ndarray
        How many TER records of the file come before it.
    is_ended : ndarray, bool
        Whether a TER record ends its part.
    notes : list of str
        What is not as the format has it.
    """

    lines: Lines
    section: Lines
    part: Lines
    is_ended: NDArray[np.bool_]
    notes: list[str]


def frame_of(
    prefix: NDArray[np.uint32], atoms: Lines, identity: Callable[[], Bytes], numbers: dict[int, str],
    model: int, where: str,
) -> Frame:  # fmt: skip
    """Return the lines of a model.

    Parameters
    ----------
    prefix : ndarray
        The first four columns of every line.
    atoms : ndarray
        Numbers of the lines that hold atoms.
    identity : callable
        Returns their columns that name the atom, uint8, shape (atoms, columns).
    numbers : dict
        Of each line that begins a model, what stands behind MODEL.
    model : int
        Position of the model, from 1.
    where : str
        For messages.
    """
    begins, closes, ends, ters = (
        np.flatnonzero(some)
        for some in (
            prefix == _MODEL, prefix == _ENDMDL, (prefix == _END[0]) | (prefix == _END[1]),
            (prefix == _TER[0]) | (prefix == _TER[1]),
        )
    )  # fmt: skip
    borders = np.sort(np.concatenate([begins, closes, ends]))
    notes: list[str] = []
    section = np.zeros(len(atoms), dtype=np.int64)
    # Lines between one border and the next.
    place = np.searchsorted(borders, atoms)
    if not begins.size and (not place.size or place[0] == place[-1]):
        frames = [np.arange(len(atoms))]
    elif begins.size:
        frames = _models(borders, begins, closes, place, numbers, notes)
    else:
        frames = [np.flatnonzero(place == p) for p in np.unique(place)]
        if len(frames) > 1:
            names = identity()
            same = [len(f) == len(frames[0]) and bool((names[f] == names[frames[0]]).all()) for f in frames]
        if len(frames) > 1 and not all(same):
            notes.append(
                f"the file holds {len(frames)} parts that are ended by END and differ; all of them are read"
            )
            section, frames = np.searchsorted(np.unique(place), place), [np.arange(len(atoms))]
        elif len(frames) > 1:
            notes.append(
                f"the file holds {len(frames)} parts of the same residues, each ended by END; they are taken "
                f"for models, and number {model} is read"
            )
    about = about_model(model, len(frames), where)
    if begins.size:  # else it is said above
        notes[:0] = about
    chosen = frames[model - 1]
    part = np.searchsorted(ters, atoms[chosen])
    past = np.append(borders, 2**62)[place[chosen]]
    is_ended = np.append(ters, 2**62)[part] < past
    return Frame(atoms[chosen], section[chosen], part, is_ended, notes)


def _models(
    borders: Lines, begins: Lines, closes: Lines, place: Lines, numbers: dict[int, str], notes: list[str]
) -> list[Lines]:
    """Return the atoms of each model, and of each group of atoms that is in none."""
    begun = set(begins.tolist())
    by_place = np.split(
        np.argsort(place, kind="stable"), np.cumsum(np.bincount(place, minlength=len(borders) + 1))
    )
    frames, outside, unclosed = [], 0, 0
    for p in range(len(borders) + 1):
        is_model = p > 0 and int(borders[p - 1]) in begun
        if is_model or by_place[p].size:
            frames.append(by_place[p])
        outside += 0 if is_model else by_place[p].size
        unclosed += is_model and p < len(borders) and int(borders[p]) in begun
    if unclosed:
        are = "1 model is" if unclosed == 1 else f"{unclosed} models are"
        notes.append(f"{are} not ended by ENDMDL; the next MODEL is taken for the end")
    if outside:
        notes.append(
            f"{outside} atoms stand outside of MODEL and ENDMDL; they are counted as a model of their own"
        )
    count = Counter(numbers[line] for line in begins.tolist())
    number, times = count.most_common(1)[0]
    if times > 1:
        bear = f"bear the number {number}" if number else "bear no number"
        notes.append(f"{times} models {bear}; they are counted by position")
    return frames
