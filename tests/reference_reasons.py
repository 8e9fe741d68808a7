"""Reasons why another reader differs from the SDK in a residue, found from the text of the file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import gemmi
import numpy as np

from protemb_sdk._structure.residue_names import kind_of

Place = tuple[float, float, float]

BOND = 2.0  # angstrom; a peptide bond is 1.33
SAME = 0.01  # angstrom; Biotite and Biopython use float32


@dataclass(frozen=True)
class Residue:
    """A residue with a C-alpha atom, as found by a reader."""

    chain: str
    number: int
    code: str
    name: str
    place: Place
    letter: str = ""  # from the SDK; for other readers, from the residue name

    @property
    def shown(self) -> str:
        return f"{self.name} {self.number}{self.code} of chain {self.chain or '(no name)'}"


@dataclass(frozen=True)
class Atom:
    """N, CA or C in the text of a file."""

    atom: str
    is_het: bool
    altloc: str
    residue: str
    chain: str
    number: str  # with the insertion code
    segment: str
    place: Place
    occupancy: float
    outside: bool = False  # of MODEL and ENDMDL, if the file has these records
    ters: int = 0  # TER records before it


class Facts:
    """Backbone atoms in the text of a file's first model, and the reasons that follow from them.

    A reason is "" where the file does not explain the difference.
    """

    def __init__(self, data: bytes, kind: str) -> None:
        self.data, self.kind = data, kind

    @cached_property
    def atoms(self) -> list[Atom]:
        if self.kind == "PDB":
            return list(_atoms_of_pdb(self.data))
        return [atom for columns in self._tables for atom in _atoms_of_columns(columns)]

    @cached_property
    def _document(self) -> gemmi.cif.Document:
        return gemmi.cif.read_string(self.data)

    @property
    def _tables(self) -> Iterator[dict[str, list[str]]]:
        if self.kind == "BinaryCIF":
            from biotite.structure.io.pdbx import BinaryCIFFile

            for block in BinaryCIFFile.read(io.BytesIO(self.data)).values():
                category = block["atom_site"]
                yield {name: category[name].as_array(str).tolist() for name in category}
            return
        for block in self._document:
            found = block.get_mmcif_category("_atom_site.")
            yield {
                name: ["" if v in (None, False) else str(v) for v in values] for name, values in found.items()
            }

    def at(self, residue: Residue) -> Atom | None:
        """Return the C-alpha atom that a reader used."""
        number = f"{residue.number}{residue.code}"
        found = [a for a in self._alphas if a.number == number and _apart(a, residue) < SAME]
        # Residue types of one site may share a C-alpha.
        return next((a for a in found if a.residue == residue.name), found[0] if found else None)

    @cached_property
    def _alphas(self) -> list[Atom]:
        return [a for a in self.atoms if a.atom == "CA"]

    def is_bonded(self, alpha: Atom) -> bool:
        """Return whether N or C of the residue of a C-alpha is bonded to C or N of another residue."""
        own = [a for a in self.atoms if _site(a) == _site(alpha) and a.residue == alpha.residue]
        for mine, theirs in (("N", "C"), ("C", "N")):
            starts = [a.place for a in own if a.atom == mine]
            ends = [a.place for a in self.atoms if a.atom == theirs and _is_other(a, alpha)]
            if starts and ends:
                apart = np.linalg.norm(np.subtract(starts[0], np.array(ends)), axis=1)
                if (apart < BOND).any():
                    return True
        return False

    def why_not_read(self, error: Exception) -> str:
        """Return why a reader may refuse the whole file."""
        if self.kind == "mmCIF" and "Missing 'atom_site'" in str(error):
            indented = set(re.findall(rb"^([ \t]*)_atom_site\.", self.data, re.MULTILINE))
            return "" if b"" in indented else "the names of the columns are indented"
        blank = self.kind == "PDB" and "could not convert string to float: ''" in str(error)
        lines = self.data.decode("latin1").splitlines() if blank else []
        if any(line[:6] in ("ATOM  ", "HETATM") and not line[54:60].strip() for line in lines):
            return "an occupancy is blank; we take it for 1"
        return ""

    def why_only_ours(self, mine: Residue, matched: list[Residue]) -> str:
        """Return why a reader lacks a residue; `matched` are the residues that both readers have."""
        atom = self.at(mine)
        if atom is None:
            return ""
        twins = [t for m in matched if (t := self.at(m)) and _site(t) == _site(atom)]
        if any(t.altloc == atom.altloc == "" and t.place != atom.place for t in twins):
            return "two molecules share chain name and residue numbers; it keeps the first"
        return ""

    def why_other_conformer(self, mine: Residue, other: Residue) -> str:
        """Return why another C-alpha atom was used for the same site."""
        a, b = self.at(mine), self.at(other)
        if a is None or b is None or not a.altloc or not b.altloc or a.altloc == b.altloc:
            return ""
        if _site(a) != _site(b) or a.occupancy < b.occupancy:
            return ""
        if a.occupancy > b.occupancy:
            return "of several conformers we take the one with the highest occupancy"
        first = self._alphas.index(a) < self._alphas.index(b)
        return "of conformers with equal occupancy we take the first in the file" if first else ""

    def why_only_theirs(self, other: Residue) -> str:
        """Return why the SDK skips a residue that another reader has."""
        place = np.array(other.place)
        if not np.isfinite(place).all() or (place == 0).all() or (abs(place) >= 999).any():
            return "it has no position (a placeholder)"
        atom = self.at(other)
        if atom is None:
            return ""
        if atom.outside:
            return "it stands outside of MODEL and ENDMDL, which we take for a model of its own"
        types = {a.residue for a in self._alphas if _site(a) == _site(atom) and a.altloc}
        if atom.altloc and len(types) > 1:
            return "a site with several residue types (altLoc), of which we take one"
        if atom.is_het and not self.is_bonded(atom):
            return "a ligand (HETATM) with an atom CA and no peptide bond"
        return ""

    def why_named(self, mine: Residue, other: Residue) -> str:
        """Return why a chain has another name."""
        atom = self.at(mine)
        if atom is None or atom.chain or other.chain:
            return ""
        if atom.segment == mine.chain:
            return "no chain letter; we take the segment name (columns 73 to 76)"
        alphas = [a for a in self._alphas if not a.chain]
        numbers = [int(a.number) for a in alphas if a.number.lstrip("-").isdigit()]
        several = alphas[-1].ters > alphas[0].ters or (np.diff(numbers) < 0).any()
        if mine.chain.isdigit() and several:
            return "no chain letter; molecules that TER or falling numbers separate are numbered"
        return ""

    def why_letter(self, mine: Residue, other: Residue) -> str:
        """Return why a residue has another one-letter code."""
        if mine.name != other.name:
            atom = self.at(mine)
            types = {a.residue: a.occupancy for a in self._alphas if atom and _site(a) == _site(atom)}
            several = {mine.name, other.name} <= set(types) and types[mine.name] >= types[other.name]
            return "a site with several residue types (altLoc), of which we take one" if several else ""
        parents = {kind_of(p)[1] for name, p in self._parents if name == mine.name}
        return "the file names the parent of a modified residue" if parents == {mine.letter} else ""

    @cached_property
    def _parents(self) -> set[tuple[str, str]]:
        if self.kind == "PDB":
            lines = self.data.decode("latin1").splitlines()
            return {(x[12:15].strip(), x[24:27].strip()) for x in lines if x.startswith("MODRES")}
        if self.kind == "BinaryCIF":
            return set()
        found: set[tuple[str, str]] = set()
        for block in self._document:
            for tags in (
                ["_pdbx_struct_mod_residue.auth_comp_id", "_pdbx_struct_mod_residue.parent_comp_id"],
                ["_chem_comp.id", "_chem_comp.mon_nstd_parent_comp_id"],
            ):
                found |= {(row.str(0), row.str(1)) for row in block.find(tags)}
        return found


def _apart(atom: Atom, residue: Residue) -> float:
    return float(np.linalg.norm(np.subtract(atom.place, residue.place)))


def _is_other(atom: Atom, alpha: Atom) -> bool:
    """Return whether an atom belongs to another residue of the same model."""
    return _site(atom) != _site(alpha) and atom.outside == alpha.outside


def _site(atom: Atom) -> tuple[str, str]:
    return atom.chain, atom.number


def _atoms_of_pdb(data: bytes) -> Iterator[Atom]:
    lines = data.decode("latin1").splitlines()
    has_models = any(line[:6].strip() == "MODEL" for line in lines)
    model, inside, ters = 0, False, 0
    for line in lines:
        if line[:6].strip() == "MODEL":
            model, inside = model + 1, True
        elif line.startswith("ENDMDL"):
            inside = False
        elif line.startswith("TER"):
            ters += 1
        elif line[:6] in ("ATOM  ", "HETATM") and line[12:16].strip() in ("N", "CA", "C"):
            if inside and model > 1:
                continue
            try:
                x, y, z = (float(line[i : i + 8]) for i in (30, 38, 46))
                occupancy = float(line[54:60].strip() or 1)
            except ValueError:
                continue
            yield Atom(
                atom=line[12:16].strip(), is_het=line.startswith("H"), altloc=line[16].strip(),
                residue=line[17:20].strip(), chain=line[21].strip(), number=line[22:27].strip(),
                segment=line[72:76].strip(), place=(x, y, z), occupancy=occupancy,
                outside=has_models and not inside, ters=ters,
            )  # fmt: skip


def _atoms_of_columns(columns: dict[str, list[str]]) -> Iterator[Atom]:
    size = len(next(iter(columns.values()), []))

    def column(*names: str) -> list[str]:
        for name in names:
            if name in columns:
                return ["" if v in ("?", ".") else v for v in columns[name]]
        return [""] * size

    models = column("pdbx_PDB_model_num")
    rows = zip(
        models, column("label_atom_id", "auth_atom_id"), column("group_PDB"), column("label_alt_id"),
        column("auth_comp_id", "label_comp_id"), column("auth_asym_id", "label_asym_id"),
        column("auth_seq_id", "label_seq_id"), column("pdbx_PDB_ins_code"), column("occupancy"),
        column("Cartn_x"), column("Cartn_y"), column("Cartn_z"), strict=True,
    )  # fmt: skip
    for model, atom, group, altloc, residue, chain, number, code, occupancy, *place in rows:
        if model == models[0] and atom in ("N", "CA", "C") and all(place):
            x, y, z = map(float, place)
            yield Atom(
                atom, group == "HETATM", altloc, residue, chain, number + code, "", (x, y, z),
                float(occupancy or 1),
            )  # fmt: skip
