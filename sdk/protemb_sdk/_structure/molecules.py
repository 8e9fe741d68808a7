"""What a chain is: the one rule for files and for structures of other libraries.

A chain is a molecule: residues that the source gives one name, without a sign that another molecule begins.

1. *Name.* The author's chain name; where it is blank, the segment name. Copies of an assembly (Biotite's
   `sym_id`) and files that were concatenated (END, data blocks) do not share chains.
2. *Label.* Polymers with several `label_asym_id` are several molecules (mmCIF).
3. *Numbers.* A residue number that comes again begins another molecule, unless a peptide bond leads to it,
   it is another conformer, or it is the number of the residue before it. So do falling numbers where there
   is no name.
4. *TER* ends a chain that has no name, unless a bond or a gap in the numbers leads on. In a chain with a
   name it is passed over, unless the numbers start again, the segment name changes, another chain came
   between, or the residue before it has an end (OXT) and the numbers leave no gap that the distance allows.
5. Ligands, waters and caps neither begin nor end a molecule.

`_protein` then says which residues of a molecule are protein.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._structure.atoms import CA, OXT, C, N, Stretches, Table
from protemb_sdk._structure.constants import BREAK_DISTANCE
from protemb_sdk._structure.molecule_names import LABELS, NUMBERS, TER, Group, Molecule, Point, Residue, named
from protemb_sdk._structure.placed import separated, without_placeholders
from protemb_sdk._structure.residue_names import CAPS, begins_a_chain, ends_a_chain, kind_of

# A peptide bond is 1.33 angstrom long; sloppy models stretch it.
BOND_DISTANCE = 2.0
# Neighbouring C-alphas are 3.8 angstrom apart at the most, and missing residues no more.
LONGEST_STEP = 3.9


def table_of(found: Stretches) -> Table:
    """Return residues and the molecules that they belong to."""
    cut = separated(found)
    placed, unplaced = without_placeholders(cut)
    kinds = [kind_of(name)[0] for name in placed.name]
    groups = _plain(placed, kinds) if cut is found else None
    if groups is None:
        return _Reading(placed, kinds).table(unplaced)
    chains = list(dict.fromkeys(c or s for c, s in zip(placed.chain, placed.segment, strict=True)))
    every = np.arange(len(groups))
    own = Assigned(every, list(every), placed.number, groups, groups, chains, [*chains], [[] for _ in chains])
    return _as_table(placed, own, unplaced)


@dataclass(slots=True)
class Assigned:
    """Which stretches make residues, and which residues make molecules."""

    of_stretch: NDArray[np.int64]  # the residue of each stretch
    first: list[int]  # the first stretch of each residue
    number: Sequence[int | None]
    group: list[int]
    molecule: list[int]
    chains: list[str]  # names of molecules
    source: list[str | None]  # names that the header of the source knows them by
    notes: list[list[str]]  # on molecules


def _as_table(found: Stretches, own: Assigned, unplaced: set[int]) -> Table:
    residue = own.of_stretch[found.stretch]
    atoms = np.argsort(residue, kind="stable")
    is_unplaced = np.zeros(len(own.first), dtype=bool)
    is_unplaced[own.of_stretch[list(unplaced)]] = True
    first = own.first
    return Table(
        molecule=np.array(own.molecule, dtype=np.int64),
        group=np.array(own.group, dtype=np.int64),
        label_chain=[found.label_chain[s] for s in first] if found.labelled else [""] * len(first),
        number=np.array(own.number, dtype=np.int64),
        insertion_code=[found.insertion_code[s] for s in first],
        name=[found.name[s] for s in first],
        label_seq=[found.label_seq[s] for s in first],
        declared=np.array([found.declared[s] for s in first], dtype=bool),
        unplaced=is_unplaced,
        residue=residue[atoms],
        atom=found.atom[atoms],
        altloc=found.altloc[atoms],
        occupancy=found.occupancy[atoms],
        plddt=found.plddt[atoms],
        position=found.position[atoms],
        parents=found.parents,
        chains=own.chains,
        sequences=[found.sequences.get(name or "", []) for name in own.source],
        about_models=found.about_models,
        notes=[[*found.about_models, *found.notes, *notes] for notes in own.notes],
    )


def _plain(found: Stretches, kinds: list[str]) -> list[int] | None:
    """Return the group of every stretch if each group is one molecule and each stretch a residue, else None.

    This is the rule where nothing is unusual, as in most files.
    """
    if any(found.section) or any(found.copy) or None in found.number:
        return None
    names = [c or s for c, s in zip(found.chain, found.segment, strict=True)]
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}
    groups = [place[name] for name in names]
    size = len(groups)
    labels = (found.label_seq, found.label_chain) if found.labelled else ()
    if len(set(zip(groups, found.number, found.insertion_code, found.name, *labels, strict=True))) < size:
        return None
    polymer = [s for s in range(size) if found.declared[s] and kinds[s] in ("amino", "DNA", "RNA", "unknown")]
    if len({(groups[s], found.number[s], found.insertion_code[s]) for s in polymer}) < len(polymer):
        return None
    if len({(groups[s], found.part[s], found.label_chain[s]) for s in polymer}) > len(
        {groups[s] for s in polymer}
    ):
        return None
    if "" in place:
        nameless = [found.number[s] for s in polymer if not names[s]]
        if any(a > b for a, b in zip(nameless, nameless[1:], strict=False)):  # type: ignore[operator]
            return None
    return groups


class _Reading:
    """Puts stretches together, one after the other."""

    def __init__(self, found: Stretches, kinds: list[str]) -> None:
        self.found, self.kinds = found, kinds
        size = len(found.chain)
        self.residues: list[Residue] = []
        self.groups: dict[tuple[int, str, str], Group] = {}
        self.at: tuple[dict[int, Point], ...] = ({}, {}, {}, {})  # by atom: stretch to place
        self.altlocs: dict[int, list[int]] = {}  # of C-alphas, by stretch
        for s, atom, altloc, place in zip(
            found.stretch.tolist(), found.atom.tolist(), found.altloc.tolist(), found.position.tolist(),
            strict=True,
        ):  # fmt: skip
            self.at[atom].setdefault(s, place)
            if atom == CA:
                self.altlocs.setdefault(s, []).append(altloc)
        self.visits = 0
        self.last_group: Group | None = None
        for s in range(size):
            self._take(s)

    def _take(self, s: int) -> None:
        found = self.found
        name = found.chain[s] or found.segment[s]
        place = (found.section[s], found.copy[s], name)
        group = self.groups.get(place)
        if group is None:
            group = self.groups[place] = Group(name, found.section[s], found.copy[s])
        number = found.number[s]
        is_counted = number is None
        number = group.counted + 1 if number is None else number
        group.counted = number
        what: tuple[object, ...] = (
            (s,) if is_counted
            else (number, found.insertion_code[s], found.name[s], found.label_seq[s], found.label_chain[s])
        )  # fmt: skip
        if not self._is_polymer(s):
            group.capped = group.capped or found.name[s] in CAPS
            known = group.others.get(what)
            if known is not None and self._fit(known, s):
                known.stretches.append(s)
                return
            molecule = group.molecules[-1] if group.molecules else None
            group.others[what] = self._new(s, number, molecule, group)
            return
        if self.last_group is not group:
            self.visits += 1
            self.last_group = group
        molecule = self._molecule(group, s, number, what, is_counted)
        molecule.counted += is_counted
        letters = self.altlocs.get(s, ())
        molecule.crowded += len(set(letters)) < len(letters)
        known = molecule.residues.get(what)
        if known is not None and self._fit(known, s):
            known.stretches.append(s)
            residue = known
        elif known is not None and self._same_place(known, s):
            molecule.doubled += 1
            known.stretches.append(s)
            residue = known
        else:
            residue = self._new(s, number, molecule, group)
            molecule.residues[what] = residue
            if not is_counted:
                key = (number, found.insertion_code[s])
                other = molecule.by_key.get(key)
                if other is not None and other is not molecule.last and self._is_conformer(other, s):
                    residue.order = other.order + 1e-6 * residue.order  # beside the site's other type
                molecule.by_key.setdefault(key, residue)
        molecule.last = residue
        group.capped = False
        group.visit = self.visits

    def _new(self, s: int, number: int, molecule: Molecule | None, group: Group) -> Residue:
        residue = Residue(s, number, molecule, group, float(len(self.residues)), [s])
        self.residues.append(residue)
        return residue

    def _is_polymer(self, s: int) -> bool:
        kind = self.kinds[s]
        if not self.found.declared[s]:
            return False
        backbone = s in self.at[N] and s in self.at[C] and s in self.at[CA]
        return kind in ("amino", "DNA", "RNA") or (kind == "unknown" and backbone)

    # --- which molecule ---------------------------------------------------------------------------

    def _molecule(
        self, group: Group, s: int, number: int, what: tuple[object, ...], is_counted: bool
    ) -> Molecule:
        """Return the molecule that a stretch of a polymer belongs to; perhaps a new one."""
        label = self.found.label_chain[s]
        molecule = group.current.get(label)
        if molecule is None:
            if group.molecules:
                group.told_by.add(LABELS)
            return self._begin(group, label)
        known = molecule.residues.get(what)
        if known is not None and (self._fit(known, s) or self._same_place(known, s)):
            return molecule
        if group.is_mixed:
            for other in group.molecules:
                if self._is_bonded(other.last, s):
                    return other
        last = molecule.last
        assert last is not None  # every molecule was begun by a residue
        reason = self._another(molecule, last, s, number, is_counted)
        if reason is None:
            return molecule
        group.told_by.add(reason)
        return self._begin(group, label)

    def _begin(self, group: Group, label: str) -> Molecule:
        molecule = group.current[label] = Molecule(group)
        group.molecules.append(molecule)
        return molecule

    def _another(
        self, molecule: Molecule, last: Residue, s: int, number: int, is_counted: bool
    ) -> str | None:
        """Return what tells a stretch from the molecule of the residue before it, or None."""
        found, group = self.found, molecule.group
        key = (number, found.insertion_code[s])
        last_key = (last.number, found.insertion_code[last.first])
        earlier = None if is_counted else molecule.by_key.get(key)
        after_ter = found.part[s] != found.part[last.stretches[-1]]
        falls = not is_counted and not group.name and number < last.number
        if earlier is None and not after_ter and not falls:
            return None
        if self._is_bonded(last, s):
            return None
        if earlier is not None and not self._is_conformer(earlier, s):
            if key != last_key:
                return NUMBERS
            if found.name[s] == found.name[last.first] and self._distance(last, s) > BREAK_DISTANCE:
                group.is_mixed = True
                return NUMBERS
        if after_ter:
            if self._ter_ends(group, last, s, number):
                return TER
            self._note_gap(molecule, last)
            return None
        return NUMBERS if falls else None

    def _ter_ends(self, group: Group, last: Residue, s: int, number: int) -> bool:
        """Whether TER between two residues that are not bonded is the end of a molecule."""
        found = self.found
        if (self.kinds[s] in ("DNA", "RNA")) != (self.kinds[last.first] in ("DNA", "RNA")):
            return True
        steps = number - last.number
        leaves_gap = steps > 1 and self._distance(last, s) <= LONGEST_STEP * steps
        has_end = (
            any(p in self.at[OXT] for p in last.stretches)
            or ends_a_chain(found.name[last.first])
            or begins_a_chain(found.name[s])
        )
        if not group.name:
            return has_end or group.capped or not leaves_gap
        before, after = found.segment[last.first], found.segment[s]
        return (
            (before != after and bool(before) and bool(after))
            or (number, found.insertion_code[s]) <= (last.number, found.insertion_code[last.first])
            or (not leaves_gap and (has_end or group.visit != self.visits))
        )

    def _note_gap(self, molecule: Molecule, last: Residue) -> None:
        name, code = self.found.name[last.first], self.found.insertion_code[last.first]
        molecule.notes.append(f"TER after {name} {last.number}{code} was taken for a gap within the chain")

    # --- residues ---------------------------------------------------------------------------------

    def _fit(self, known: Residue, s: int) -> bool:
        """Whether a stretch may hold more atoms, or other conformers, of a residue."""
        mine = self.altlocs.get(s)
        if mine is None:
            return True
        theirs = [a for other in known.stretches for a in self.altlocs.get(other, ())]
        return not theirs or (0 not in mine and 0 not in theirs and not set(mine) & set(theirs))

    def _is_conformer(self, known: Residue, s: int) -> bool:
        return bool(self.altlocs.get(s)) and self._fit(known, s) and known.first in self.altlocs

    def _same_place(self, known: Residue, s: int) -> bool:
        return self._distance(known, s) < 1e-3

    def _place(self, residue: Residue, atom: int) -> Point | None:
        return next((self.at[atom][s] for s in residue.stretches if s in self.at[atom]), None)

    def _distance(self, residue: Residue, s: int) -> float:
        """Return how far apart C-alphas are; infinite where one is missing."""
        one, other = self._place(residue, CA), self.at[CA].get(s)
        return math.inf if one is None or other is None else math.dist(one, other)

    def _is_bonded(self, residue: Residue | None, s: int) -> bool:
        if residue is None:
            return False
        end, start = self._place(residue, C), self.at[N].get(s)
        if end is not None and start is not None:
            return 0.5 < math.dist(end, start) < BOND_DISTANCE
        return 1.9 < self._distance(residue, s) < BREAK_DISTANCE

    # --- the result -------------------------------------------------------------------------------

    def table(self, unplaced: set[int]) -> Table:
        """Return what was put together."""
        groups = list(self.groups.values())
        molecules, chains = named(groups)
        residues = sorted(self.residues, key=lambda r: r.order)
        place = {id(m): i for i, m in enumerate(molecules)}
        of_group = {id(g): i for i, g in enumerate(groups)}
        of_stretch = np.zeros(len(self.found.chain), dtype=np.int64)
        for position, residue in enumerate(residues):
            of_stretch[residue.stretches] = position
        own = Assigned(
            of_stretch=of_stretch,
            first=[r.first for r in residues],
            number=[r.number for r in residues],
            group=[of_group[id(r.group)] for r in residues],
            molecule=[place[id(r.molecule or r.group.molecules[0])] for r in residues],
            chains=chains,
            source=[None if m.group.section else m.group.name for m in molecules],
            notes=[[*m.notes, *_about(m)] for m in molecules],
        )
        return _as_table(self.found, own, unplaced)


def _about(molecule: Molecule) -> list[str]:
    notes = []
    if molecule.counted:
        residues = "1 residue" if molecule.counted == 1 else f"{molecule.counted} residues"
        notes.append(f"{residues} without a number were counted")
    if molecule.crowded:
        have = "1 residue has" if molecule.crowded == 1 else f"{molecule.crowded} residues have"
        notes.append(f"{have} several C-alphas without conformer letters, of which one is taken")
    if molecule.doubled:
        times = "1 time" if molecule.doubled == 1 else f"{molecule.doubled} times"
        notes.append(f"a residue is listed again at the same place ({times}), and taken once")
    return notes
