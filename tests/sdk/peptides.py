"""Ideal helices as PDB and mmCIF text in which every field can be set, for the tests of chains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import gemmi

ONE, OTHER = "MEKLFRWDAG", "GSTHVNICQY"

# Name, radius in angstrom, angle in degrees and height of the backbone of an ideal helix.
_BACKBONE = (
    ("N", 1.55, -26.0, -0.87),
    ("CA", 2.29, 0.0, 0.0),
    ("C", 1.66, 27.5, 1.15),
    ("O", 1.96, 24.0, 2.32),
)


@dataclass(frozen=True)
class Atom:
    """One atom line."""

    name: str
    residue: str
    number: int | str
    place: tuple[float, float, float]
    chain: str = "A"
    code: str = ""
    segment: str = ""
    alt: str = ""
    occupancy: float = 1.0
    record: str = "ATOM"
    label: str = ""
    label_seq: int | str = ""
    element: str = ""

    @property
    def symbol(self) -> str:
        return self.element or self.name[0]


def helix(
    sequence: str = ONE,
    *,
    first: int = 1,
    away: float = 0.0,
    names: Sequence[str] | None = None,
    **fields: object,
) -> list[Atom]:
    """Return a helix of a sequence in one-letter codes; `away` shifts it along x."""
    atoms = []
    for i, letter in enumerate(sequence):
        residue = names[i] if names else gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA)
        for name, radius, angle, height in _BACKBONE:
            turn = math.radians(angle + 100 * i)
            place = (radius * math.cos(turn) + away, radius * math.sin(turn), height + 1.5 * i)
            atoms.append(Atom(name, residue, first + i, place, label_seq=i + 1, **fields))  # type: ignore[arg-type]
    return atoms


def changed(atoms: Iterable[Atom], numbers: Iterable[int] | None = None, **fields: object) -> list[Atom]:
    """Return atoms with changed fields, of all residues or of the given residue numbers."""
    some = None if numbers is None else set(numbers)
    return [replace(a, **fields) if some is None or a.number in some else a for a in atoms]  # type: ignore[arg-type]


def pdb(*parts: Iterable[Atom] | str) -> bytes:
    """Return PDB text; parts that are strings are inserted as lines."""
    lines, serial = [], 0
    for part in parts:
        if isinstance(part, str):
            lines.append(part)
            continue
        for atom in part:
            serial += 1
            x, y, z = atom.place
            xyz = "".join(c if isinstance(c, str) else f"{c:8.3f}" for c in (x, y, z))
            name = f" {atom.name}".ljust(4) if len(atom.name) < 4 else atom.name
            lines.append(
                f"{atom.record:6}{serial % 100000:5} {name}"
                f"{atom.alt:1}{atom.residue.rjust(3).ljust(4)}{atom.chain:1}{atom.number:>4}{atom.code:1}   "
                f"{xyz}{atom.occupancy:6.2f}{0.0:6.2f}      {atom.segment:4}{atom.symbol:>2}"
            )
    return ("\n".join(lines) + "\n").encode()


COLUMNS = (
    "group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id",
    "label_entity_id", "label_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy",
    "auth_seq_id", "auth_comp_id", "auth_asym_id", "auth_atom_id", "pdbx_PDB_model_num",
)  # fmt: skip


def cif(*parts: Iterable[Atom], name: str = "x", without: Sequence[str] = (), model: int = 1) -> bytes:
    """Return an mmCIF data block without some of its columns."""
    rows = []
    for part in parts:
        for atom in part:
            x, y, z = (c if isinstance(c, str) else f"{c:.3f}" for c in atom.place)
            values = (
                atom.record, len(rows) + 1, atom.symbol, atom.name, atom.alt or ".", atom.residue,
                atom.label or atom.chain.strip() or "?", 1, atom.label_seq or ".", atom.code or "?", x, y, z,
                atom.occupancy, atom.number, atom.residue, atom.chain.strip() or "?", atom.name, model,
            )  # fmt: skip
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    kept = [c for c in COLUMNS if c not in without]
    lines = [f"data_{name}", "#", "loop_", *(f"_atom_site.{c}" for c in kept)]
    lines += [" ".join(str(row[c]) for c in kept) for row in rows]
    return ("\n".join([*lines, "#"]) + "\n").encode()
