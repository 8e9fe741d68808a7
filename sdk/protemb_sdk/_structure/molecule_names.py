"""Molecules while they are put together, and unique names for those that share one, or have none."""

from __future__ import annotations

from dataclasses import dataclass, field

TER, NUMBERS, LABELS = "TER", "residue numbers that start again", "label_asym_id"
COPIES, SECTIONS = "their copy in the assembly", "the part of the file that they are from"

Point = tuple[float, float, float]
Key = tuple[int, str]


@dataclass(slots=True)
class Residue:
    """A residue while it is put together: first its place and names, then its atoms."""

    first: int  # its first stretch, which names it
    number: int
    molecule: Molecule | None
    group: Group
    order: float
    stretches: list[int]


@dataclass(slots=True)
class Molecule:
    """A chain while it is put together."""

    group: Group
    residues: dict[tuple[object, ...], Residue] = field(default_factory=dict)  # by number and names
    by_key: dict[Key, Residue] = field(default_factory=dict)
    last: Residue | None = None  # of the polymer
    notes: list[str] = field(default_factory=list)
    doubled: int = 0  # residues that are listed twice
    crowded: int = 0  # residues with several C-alphas and no conformer letters
    counted: int = 0  # residues without a number


@dataclass(slots=True)
class Group:
    """What a source gives one chain name."""

    name: str
    section: int
    copy: str
    molecules: list[Molecule] = field(default_factory=list)
    current: dict[str, Molecule] = field(default_factory=dict)  # by label
    others: dict[tuple[object, ...], Residue] = field(default_factory=dict)
    told_by: set[str] = field(default_factory=set)
    is_mixed: bool = False  # residues of several molecules alternate
    capped: bool = False  # a cap came after the last residue
    visit: int = -1  # when the last residue of a polymer came
    crowded: int = 0  # residues with several C-alphas and no conformer letters
    counted: int = 0  # the last number


def named(groups: list[Group]) -> tuple[list[Molecule], list[str]]:
    """Name the molecules of all groups, in file order; notes are added to those whose name is shared.

    The first of several molecules with one name keeps it, the others are called A-2, A-3. Several molecules
    without a name are numbered. A group without polymer goes with the first molecule of its name.
    """
    by_name: dict[str, list[Group]] = {}
    for group in groups:
        by_name.setdefault(group.name, []).append(group)
    for same in by_name.values():
        owner = next((m for g in same for m in g.molecules), None)
        for group in same:
            if not group.molecules:
                if owner is None:
                    owner = Molecule(group)
                group.molecules.append(owner)
    taken = set(by_name)
    found: dict[int, tuple[Molecule, str]] = {}
    for base, same in by_name.items():
        molecules = list({id(m): m for g in same for m in g.molecules}.values())
        names = _unique(base, len(molecules), taken)
        if len(molecules) > 1:
            told_by = set().union(*(g.told_by for g in same))
            told_by |= {COPIES} if len({g.copy for g in same}) > 1 else set()
            told_by |= {SECTIONS} if len({g.section for g in same}) > 1 else set()
            shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            bear = f"have the chain name {base!r}" if base else "have no chain name"
            note = (
                f"{len(molecules)} molecules of the source {bear}, told apart by "
                f"{' and '.join(sorted(told_by))}; they are named {shown}"
            )
            for molecule in molecules:
                molecule.notes.insert(0, note)
        found |= {id(m): (m, name) for m, name in zip(molecules, names, strict=True)}
    ordered = list(dict.fromkeys(id(m) for g in groups for m in g.molecules))
    return [found[m][0] for m in ordered], [found[m][1] for m in ordered]


def _unique(base: str, count: int, taken: set[str]) -> list[str]:
    if count == 1:
        return [base]
    names = [base] if base else []
    number = 1 if not base else 2
    while len(names) < count:
        name = f"{base}-{number}" if base else str(number)
        if name not in taken:
            taken.add(name)
            names.append(name)
        number += 1
    return names
