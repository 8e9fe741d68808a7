"""PDB text to stretches of atoms, by its columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import StructureError
from protemb_sdk._structure.atoms import BACKBONE, CA, Stretches, carbons
from protemb_sdk._structure.pdb_fields import (
    SPACE,
    as_text,
    b_factors,
    check_columns,
    entry,
    has_line_numbers,
    names_and_chains,
    numbers_and_codes,
    occupancies,
    parents,
    positions,
    segments,
    sequences,
    title,
)  # fmt: skip
from protemb_sdk._structure.pdb_frames import FOLD, Frame, frame_of, word
from protemb_sdk._structure.predicted import is_experiment, is_title_of_prediction, plddt_of_b_factors
from protemb_sdk._structure.residue_names import kind_of

Bytes = NDArray[np.uint8]

_CLEAN = bytes(c if c == 10 or 32 <= c < 127 else 32 if c < 32 else ord("?") for c in range(256))
_ATOM, _HETATM, _MODEL = word(b"ATOM"), word(b"HETA"), word(b"MODE")
_SEQRES, _MODRES, _HEADER = word(b"SEQR"), word(b"MODR"), word(b"HEAD")
_TITLE, _EXPDTA = word(b"TITL"), word(b"EXPD")

# Every way of writing a name of the backbone into its four columns.
_NAMES = {
    int.from_bytes((" " * left + name).ljust(4).encode(), "little"): code
    for name, code in BACKBONE.items()
    for left in range(5 - len(name))
}
_SYMBOL = np.frombuffer(b" C", dtype=np.uint8)
_CARBON = int.from_bytes(b" CA ", "little")  # a calcium begins a column earlier


def stretches_of_pdb(data: bytes, where: str, model: int) -> Stretches:
    """Read one model of a PDB file.

    Raises
    ------
    StructureError
        If there is no such model, or coordinates are no numbers or not in their columns.
    """
    data = data.translate(_CLEAN)
    page = _Page(data)
    prefix = page.words(0) & np.uint32(FOLD)
    atoms = np.flatnonzero((prefix == _ATOM) | (prefix == _HETATM))
    begins = np.flatnonzero(prefix == _MODEL)
    numbers = dict(zip(begins.tolist(), as_text(page.rows(begins)[:, 6:14]), strict=True))
    frame = frame_of(prefix, atoms, lambda: page.rows(atoms)[:, 12:27], numbers, model, where)
    if frame.lines.size == 0:
        raise StructureError(f"model {model} holds no atoms; there is nothing to embed", where)
    short = page.ends[frame.lines] - page.starts[frame.lines] < 54
    if short.any():
        line = int(frame.lines[int(np.argmax(short))]) + 1
        raise StructureError(f"not a valid PDB file (line {line} is too short to hold coordinates)", where)
    before = prefix[: atoms[0]]
    methods = as_text(page.rows(np.flatnonzero(before == _EXPDTA))[:, 10:])
    is_measured = any(map(is_experiment, methods))
    is_predicted = not is_measured and is_title_of_prediction(
        title(page.rows(np.flatnonzero(before == _TITLE)))
    )
    found = _read(page.rows(frame.lines), frame, prefix[frame.lines] == _HETATM, is_predicted, where)
    found.is_measured = lambda: is_measured
    found.sequences = sequences(page.rows(np.flatnonzero(before == _SEQRES)))
    found.parents = parents(page.rows(np.flatnonzero(before == _MODRES)))
    found.entry = entry(page.rows(np.flatnonzero(before == _HEADER)))
    return found


class _Page:
    """Text by lines of 80 columns."""

    def __init__(self, data: bytes) -> None:
        text = np.frombuffer(data + b"\n" + b" " * 80, dtype=np.uint8)
        self.ends = np.flatnonzero(text[: len(data) + 1] == ord("\n"))
        self.starts = np.concatenate([[0], self.ends[:-1] + 1])
        self._windows = np.lib.stride_tricks.sliding_window_view(text, 80)

    def words(self, column: int) -> NDArray[np.uint32]:
        """Return four columns of every line as one number; what is behind the end of a line counts."""
        found: NDArray[np.uint32] = self._windows[self.starts, column : column + 4].view("<u4").ravel()
        return found

    def rows(self, lines: NDArray[np.int64]) -> Bytes:
        """Return lines with blanks behind their ends, shape (lines, 80)."""
        found: Bytes = self._windows[self.starts[lines]]
        length = self.ends[lines] - self.starts[lines]
        if (short := length < 80).any():
            found[np.arange(80) >= np.where(short, length, 80)[:, None]] = SPACE
        return found


def _read(page: Bytes, frame: Frame, is_het: NDArray[np.bool_], is_predicted: bool, where: str) -> Stretches:
    lines, notes = frame.lines, list[str]()
    atoms = np.ascontiguousarray(page[:, 12:16]).view("<u4").ravel()
    code = np.full(len(lines), -1, dtype=np.int64)
    for name, number in _NAMES.items():
        code[atoms == name] = number
    rows = np.flatnonzero(code >= 0)
    is_ca = code[rows] == CA
    if not is_ca.any():  # names may be in other columns, as coordinates may
        check_columns(page[:, 29:55], lines, where)
    position = positions(page[rows, 29:55], is_ca, lines[rows], where)

    key, tail = page[:, 17:27], page[:, 72:80]  # name, chain, number, insertion code
    change = np.ones(len(lines), dtype=bool)
    words = np.ascontiguousarray(key).view("S10").ravel()
    change[1:] = (words[1:] != words[:-1]) | (np.diff(frame.section) != 0) | (np.diff(frame.part) != 0)
    if has_line_numbers(tail):
        notes.append(
            "columns right of 72 were overlooked: they hold line numbers, as in files from before 1996"
        )
        tail = np.full_like(tail, SPACE)
    segment = segments(page[:, 66:72], tail, change)
    if segment is not None:
        change[1:] |= (segment[1:] != segment[:-1]).any(axis=1)
    first = np.flatnonzero(change)
    stretch = np.cumsum(change) - 1

    names, chains = names_and_chains(key[first])
    labels = [""] * len(first) if segment is None else as_text(segment[first])
    numbers, codes = numbers_and_codes(key[first, 5:])
    sections, parts = frame.section[first].tolist(), frame.part[first].tolist()

    at_ca = rows[is_ca]
    symbols = tail[at_ca, 4:6]
    kept = np.ones(len(rows), dtype=bool)
    if not (symbols == _SYMBOL).all():
        elements = [
            e if e.isalpha() else "C" if padded else ""
            for e, padded in zip(as_text(symbols), (atoms[at_ca] == _CARBON).tolist(), strict=True)
        ]
        kept[is_ca] = carbons(elements, [names[s] for s in stretch[at_ca].tolist()])
    rows, position = rows[kept], position[kept]
    altloc = page[rows, 16].astype(np.int64)
    plddt = np.full(len(rows), np.nan)
    if is_predicted:
        plddt = plddt_of_b_factors(b_factors(page[rows, 60:66]), code[rows] == CA)
    keys = list(zip(chains, labels, parts, sections, strict=True))
    return Stretches(
        chain=chains,
        number=numbers,
        insertion_code=codes,
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
        occupancy=occupancies(page[rows, 54:60]),
        plddt=plddt,
        position=position,
        notes=notes,
        about_models=frame.notes,
    )


def _declared(
    is_het: NDArray[np.bool_],
    names: list[str],
    keys: list[tuple[str, str, int, int]],
    is_ended: NDArray[np.bool_],
) -> list[bool]:
    """Tell which residues the file declares as part of a polymer.

    They are ATOM records, or HETATM records of amino acids before others of their chain, or before the TER
    record that ends it.
    """
    found: list[bool] = (~is_het).tolist()
    if all(found):
        return found
    last: dict[tuple[int, int], tuple[str, str, int, int]] = {}
    for key in keys:
        last[key[2:]] = key  # the chain that TER ends
    followed: set[tuple[str, str, int, int]] = set()
    amino = {name for name in set(names) if kind_of(name)[0] == "amino"}
    if amino.isdisjoint(name for name, is_atom in zip(names, found, strict=True) if not is_atom):
        return found
    for i in range(len(names) - 1, -1, -1):
        if names[i] not in amino:
            continue
        if found[i]:
            followed.add(keys[i])
        else:
            found[i] = keys[i] in followed or (bool(is_ended[i]) and last[keys[i][2:]] == keys[i])
    return found
