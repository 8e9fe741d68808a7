"""One model of a structure as flat arrays, whichever library it was parsed with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import StructureError
from protemb_sdk._structure.chain import ALPHABET

if TYPE_CHECKING:
    import gemmi

# Names that force fields give to protonation states; gemmi's table does not know them.
_FORCE_FIELD = {
    "HID": "H", "HIE": "H", "HIP": "H", "HSD": "H", "HSE": "H", "HSP": "H", "CYX": "C", "CYM": "C",
    "ASH": "D", "GLH": "E", "LYN": "K",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One model: lists and arrays per residue, then arrays per atom."""

    chain: list[str]
    label_chain: list[str]
    number: NDArray[np.int64]
    insertion_code: list[str]
    name: list[str]
    label_seq: list[int | None]
    declared: NDArray[np.bool_]  # ATOM record, or declared part of a polymer
    residue: NDArray[np.int64]  # position of each atom's residue
    atom: NDArray[np.bytes_]
    is_ca: NDArray[np.bool_]
    altloc: NDArray[np.int64]  # character code; 0 where there is none
    occupancy: NDArray[np.float64]
    position: NDArray[np.float64]
    parents: dict[str, str]  # residue names of which the file names the parent


def table_of_gemmi(structure: gemmi.Structure, model: int, name: str) -> Table:
    """Return the model-th model of a gemmi structure, from which the other models are removed."""
    import gemmi

    if len(structure) == 0:
        raise StructureError("holds no atoms; there is nothing to embed", name)
    if not 1 <= model <= len(structure):
        raise StructureError(f"has {_models(len(structure))}, so model={model} is not there", name)
    for position in reversed(range(len(structure))):
        if position != model - 1:
            del structure[position]
    if structure[0].count_atom_sites() == 0:
        raise StructureError(f"model {model} holds no atoms; there is nothing to embed", name)
    structure.setup_entities()
    labelled = structure.input_format in (gemmi.CoorFormat.Mmcif, gemmi.CoorFormat.Mmjson)
    if not labelled:
        structure.assign_label_seq_id()
    pairs = [(chain.name, residue) for chain in structure[0] for residue in chain]
    residues = [residue for _, residue in pairs]
    residue = np.repeat(np.arange(len(residues)), [len(r) for r in residues])
    polymer = gemmi.EntityType.Polymer
    names = [r.name for r in residues]
    label_chain = [r.subchain if labelled else "" for r in residues]
    parents = {m.res_id.name: m.parent_comp_id for m in structure.mod_residues}
    declared = np.array([r.het_flag != "H" or r.entity_type == polymer for r in residues], dtype=bool)
    flat = _flatten(structure)  # from here on names in the structure may be gone
    atom = np.asarray(flat.atom_names)
    # An element column may be missing or wrong; no amino acid holds calcium.
    amino = np.array([kind_of(n)[0] == "amino" for n in names], dtype=bool)
    is_ca = (atom == b"CA") & ((flat.elements == 6) | (np.isin(flat.elements, (0, 20)) & amino[residue]))
    numbers = [r.seqid.num for r in residues]
    return Table(
        chain=[chain for chain, _ in pairs],
        label_chain=label_chain,
        number=np.array([i if n is None else n for i, n in enumerate(numbers, 1)], dtype=np.int64),
        insertion_code=[r.seqid.icode.strip() for r in residues],
        name=names,
        label_seq=[r.label_seq for r in residues],
        declared=declared,
        residue=residue,
        atom=atom,
        is_ca=is_ca,
        altloc=np.asarray(flat.altlocs).astype(np.int64),
        occupancy=np.asarray(flat.occ).astype(np.float64),
        position=np.asarray(flat.pos),
        parents=parents,
    )


def _flatten(structure: gemmi.Structure) -> gemmi.FlatStructure:
    import gemmi

    try:
        flat = gemmi.FlatStructure(structure)
    except RuntimeError:  # it takes no name of 8 letters or more; only the atoms' names are needed
        for chain in structure[0]:
            chain.name = ""
            for residue in chain:
                residue.name = residue.subchain = residue.entity_id = ""
                for atom in residue:
                    atom.name = atom.name.encode("ascii", "replace")[:7].decode()  # bytes count
        flat = gemmi.FlatStructure(structure)
    flat.strings_as_numbers = False
    return flat


def table_of_biotite(x: Any, model: int, name: str) -> Table:
    """Return a Biotite AtomArray, or the model-th array of an AtomArrayStack."""
    coord = np.asarray(x.coord, dtype=np.float64)
    models = coord.shape[0] if coord.ndim == 3 else 1
    if not 1 <= model <= models:
        raise StructureError(f"has {_models(models)}, so model={model} is not there", name)
    coord = coord[model - 1] if coord.ndim == 3 else coord
    size = len(coord)
    if size == 0:
        raise StructureError("holds no atoms; there is nothing to embed", name)

    def column(attribute: str, default: Any, dtype: Any) -> NDArray[Any]:
        values = getattr(x, attribute, None)
        return np.full(size, default, dtype=dtype) if values is None else np.asarray(values).astype(dtype)

    chain, number, insertion_code, names = (
        column("chain_id", "", np.str_), column("res_id", 0, np.int64),
        column("ins_code", "", np.str_), column("res_name", "", np.str_),
    )  # fmt: skip
    changes = np.zeros(size, dtype=bool)
    for values in (chain, number, insertion_code, names):
        changes[1:] |= values[1:] != values[:-1]
    residue = np.cumsum(changes)
    first = np.flatnonzero(np.concatenate([[True], changes[1:]]))
    atom = np.char.encode(np.char.strip(column("atom_name", "", np.str_)), "ascii", "replace")
    element = np.char.upper(column("element", "", np.str_))
    amino = np.array([kind_of(n)[0] == "amino" for n in names[first].tolist()], dtype=bool)
    altloc = column("altloc_id", "", "U1")
    return Table(
        chain=[c.strip() for c in chain[first].tolist()],
        label_chain=column("label_asym_id", "", np.str_)[first].tolist(),
        number=number[first],
        insertion_code=[c.strip() for c in insertion_code[first].tolist()],
        name=names[first].tolist(),
        label_seq=[None] * len(first),
        declared=~column("hetero", False, bool)[first],
        residue=residue,
        atom=atom,
        is_ca=(atom == b"CA") & ((element == "C") | (np.isin(element, ("", "CA")) & amino[residue])),
        altloc=np.array([0 if c in ("", ".", "?", " ") else ord(c) for c in altloc.tolist()], dtype=np.int64),
        occupancy=column("occupancy", 1.0, np.float64),
        position=coord,
        parents={},
    )


def table_of_biopython(x: Any, model: int, name: str) -> Table:
    """Return a Biopython Structure, by the position of its model, a Model or a Chain."""
    models = list(x) if x.level == "S" else [x]
    if not 1 <= model <= len(models):
        raise StructureError(f"has {_models(len(models))}, so model={model} is not there", name)
    found = models[model - 1]
    rows = [
        (chain.id, *residue.id, residue.resname, atom)
        for chain in (found if found.level == "M" else [found])
        for residue in chain.get_unpacked_list()
        for atom in residue.get_unpacked_list()
    ]
    chains, kinds, numbers, codes, names, atoms = zip(*rows, strict=True) if rows else ((),) * 6
    return table_of_biotite(
        SimpleNamespace(
            coord=np.array([atom.coord for atom in atoms]).reshape(-1, 3),
            chain_id=chains,
            hetero=[kind.strip() != "" for kind in kinds],
            res_id=numbers,
            ins_code=codes,
            res_name=[residue.strip() for residue in names],
            atom_name=[atom.name for atom in atoms],
            element=[atom.element or "" for atom in atoms],
            altloc_id=[atom.altloc for atom in atoms],
            occupancy=[1.0 if atom.occupancy is None else atom.occupancy for atom in atoms],
        ),
        1,
        name,
    )


@lru_cache(maxsize=4096)
def kind_of(name: str) -> tuple[str, str]:
    """Return what a residue name stands for, and its one-letter code.

    Returns
    -------
    kind : str
        "amino", "DNA", "RNA", "sugar", "water", "other" or "unknown".
    letter : str
        One of `ALPHABET`; that of the parent for a modified residue.
    """
    import gemmi

    if name.upper() in _FORCE_FIELD:
        return "amino", _FORCE_FIELD[name.upper()]
    info = gemmi.find_tabulated_residue(name)
    letter = info.one_letter_code.upper()
    if not info.found():
        return "unknown", "X"
    if info.is_amino_acid():
        return "amino", letter if letter in ALPHABET else "X"
    if info.is_nucleic_acid():
        return info.kind.name, "X"
    kind = {"HOH": "water", "PYR": "sugar", "KET": "sugar"}.get(info.kind.name, "other")
    return kind, "X"


def _models(number: int) -> str:
    return "1 model" if number == 1 else f"{number} models"
