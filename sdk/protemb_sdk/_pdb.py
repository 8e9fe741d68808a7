"""PDB text to stretches of atoms, by its columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._atoms import BACKBONE, CA, Stretches, carbons
from protemb_sdk._errors import StructureError
from protemb_sdk._pdb_fields import (
    SPACE, as_bytes, as_text, check_columns, entry, has_line_numbers, long_names, number_and_code, occupancies, parents,
    positions, segments, sequences,
)  # fmt: skip
from protemb_sdk._pdb_frames import FOLD, Frame, frame_of, word
from protemb_sdk._residue_names import kind_of

Bytes = NDArray[np.uint8]

_CLEAN = bytes(c if c == 10 or 32 <= c < 127 else 32 if c < 32 else ord("?") for c in range(256))
_ATOM, _HETATM, _MODEL = word(b"ATOM"), word(b"HETA"), word(b"MODE")

# Every way of writing a name of the backbone into its four columns.
_NAMES = {
    int.from_bytes((" " * left + name).ljust(4).encode(), "little"): code
    for name, code in BACKBONE.items()
    for left in range(5 - len(name))
}
_CARBON = int.from_bytes(b" CA ", "little")  # a calcium begins a column earlier


def stretches_of_pdb(data: bytes, where: str, model: int) -> Stretches:
    """Read one model of a PDB file.

    Raises
    ------
    StructureError
        If there is no such model, or coordinates are no numbers or not in their columns.
    """
    data = data.translate(_CLEAN)
    text = np.frombuffer(data + b"\n" + b" " * 100, dtype=np.uint8)
    ends = np.flatnonzero(text[: len(data) + 1] == ord("\n"))
    page = _Page(text, np.concatenate([[0], ends[:-1] + 1]), ends)
    prefix = page.words(np.arange(len(ends)), 0) & FOLD
    atoms = np.flatnonzero((prefix == _ATOM) | (prefix == _HETATM))
    begins = np.flatnonzero(prefix == _MODEL)
    numbers = dict(zip(begins.tolist(), as_text(page.columns(begins, 6, 14)), strict=True))
    frame = frame_of(prefix, atoms, page.columns(atoms, 12, 27), numbers, model, where)
    if frame.lines.size == 0:
        raise StructureError(f"{where}: model {model} holds no atoms; there is nothing to embed")
    short = page.ends[frame.lines] - page.starts[frame.lines] < 54
    if short.any():
        line = int(frame.lines[int(np.argmax(short))]) + 1
        raise StructureError(f"{where}: not a valid PDB file (line {line} is too short to hold coordinates)")
    header = data[: int(page.starts[atoms[0]])]
    return _read(page, frame, prefix[frame.lines] == _HETATM, header, where)


@dataclass(slots=True)
class _Page:
    """Text, and where its lines begin and end."""

    text: Bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def columns(self, lines: NDArray[np.int64], first: int, past: int) -> Bytes:
        """Return columns, counted from 0, of some lines; blanks behind their ends."""
        at = np.arange(first, past)
        starts, ends = self.starts[lines], self.ends[lines]
        places = starts[:, None] + at
        found = self.text[np.minimum(places, len(self.text) - 1)]
        if lines.size and (ends - starts).min() < past:
            found[places >= ends[:, None]] = SPACE
        return found

    def words(self, lines: NDArray[np.int64], column: int) -> NDArray[np.uint32]:
        """Return four columns as one number; what is behind the end of a line counts."""
        at = self.starts[lines] + column
        found = np.zeros(len(lines), dtype=np.uint32)
        for i in range(4):
            found |= self.text[at + i].astype(np.uint32) << np.uint32(8 * i)
        return found


def _read(page: _Page, frame: Frame, is_het: NDArray[np.bool_], header: bytes, where: str) -> Stretches:
    lines, notes = frame.lines, list[str]()
    words = page.words(lines, 12)
    code = np.full(len(lines), -1, dtype=np.int64)
    for name, number in _NAMES.items():
        code[words == name] = number
    rows = np.flatnonzero(code >= 0)
    is_ca = code[rows] == CA
    if not is_ca.any():  # names may be in other columns, as coordinates may
        check_columns(page.columns(lines, 29, 55), lines, where)
    position = positions(page.columns(lines[rows], 29, 55), is_ca, lines[rows], where)

    key = page.columns(lines, 17, 27)  # name, chain, number, insertion code
    change = np.ones(len(lines), dtype=bool)
    change[1:] = (
        (key[1:] != key[:-1]).any(axis=1) | (np.diff(frame.section) != 0) | (np.diff(frame.part) != 0)
    )
    tail = page.columns(lines, 72, 80)
    if has_line_numbers(tail):
        notes.append("columns right of 72 were overlooked: they hold line numbers, as in files from before 1996")
        tail = np.full_like(tail, SPACE)
    segment = segments(page.columns(lines, 66, 72), tail, change)
    if segment is not None:
        change[1:] |= (segment[1:] != segment[:-1]).any(axis=1)
    first = np.flatnonzero(change)
    stretch = np.cumsum(change) - 1

    head = as_bytes(key[first])
    long = long_names(key[first])
    names = [row[: 4 if four else 3].decode().strip() for row, four in zip(head, long, strict=True)]
    chains = [row[4 if four else 3 : 5].decode().strip() for row, four in zip(head, long, strict=True)]
    labels = [""] * len(first) if segment is None else as_text(segment[first])
    numbers = [number_and_code(row[5:]) for row in head]
    sections, parts = frame.section[first].tolist(), frame.part[first].tolist()

    at_ca = rows[is_ca]
    elements = as_text(tail[at_ca, 4:6])
    elements = [
        e if e.isalpha() else "C" if padded else ""
        for e, padded in zip(elements, words[at_ca] == _CARBON, strict=True)
    ]
    kept = np.ones(len(rows), dtype=bool)
    kept[is_ca] = carbons(elements, [names[s] for s in stretch[at_ca]])
    rows, position = rows[kept], position[kept]
    altloc = page.columns(lines[rows], 16, 17)[:, 0].astype(np.int64)
    keys = list(zip(chains, labels, parts, sections, strict=True))
    return Stretches(
        chain=chains,
        number=[n for n, _ in numbers],
        insertion_code=[c for _, c in numbers],
        name=names,
        declared=_declared(is_het[first], names, keys, frame.is_ended[first]),
        label_chain=[""] * len(first),
        label_seq=[None] * len(first),
        segment=labels,
        part=parts,
        section=sections,
        copy=[""] * len(first),
        stretch=stretch[rows],
        atom=code[rows],
        altloc=np.where(altloc == SPACE, 0, altloc),
        occupancy=occupancies(page.columns(lines[rows], 54, 60)),
        position=position,
        parents=parents(header),
        sequences=sequences(header),
        entry=entry(header),
        notes=notes,
        about_models=frame.notes,
    )


def _declared(
    is_het: NDArray[np.bool_], names: list[str], keys: list[tuple[str, str, int, int]], is_ended: NDArray[np.bool_]
) -> list[bool]:
    """Tell which residues the file declares as part of a polymer.

    They are ATOM records, or HETATM records of amino acids before others of their chain, or before the TER
    record that ends it.
    """
    declared = ~is_het
    last: dict[tuple[int, int], tuple[str, str, int, int]] = {}
    for key in keys:
        last[key[2:]] = key  # the chain that TER ends
    followed: set[tuple[str, str, int, int]] = set()
    found: list[bool] = declared.tolist()
    for i in range(len(names) - 1, -1, -1):
        if kind_of(names[i])[0] != "amino":
            continue
        if found[i]:
            followed.add(keys[i])
        else:
            found[i] = keys[i] in followed or (bool(is_ended[i]) and last[keys[i][2:]] == keys[i])
    return found
