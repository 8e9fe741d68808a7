"""Structures of other libraries to stretches of atoms: gemmi, Biotite, Biopython."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import ProtembError, StructureError
from protemb_sdk._structure.atoms import BACKBONE, CA, Stretches, about_model, carbons, integer
from protemb_sdk._structure.predicted import is_experiment, is_title_of_prediction, plddt_of_b_factors

if TYPE_CHECKING:
    import gemmi


def stretches_of_gemmi(structure: gemmi.Structure, model: int, name: str) -> Stretches:
    """Return the model-th model of a gemmi structure, which is changed.

    Several chains of one name are parts of which TER may be the border.

    Raises
    ------
    StructureError
        Also for whatever gemmi raises: its names may hold bytes that are no UTF-8.
    """
    try:
        return _of_gemmi(structure, model, name)
    except ProtembError:
        raise
    except Exception as error:
        raise _unreadable(name, error) from error


def _of_gemmi(structure: gemmi.Structure, model: int, name: str) -> Stretches:
    import gemmi

    if len(structure) == 0:
        raise StructureError("holds no atoms; there is nothing to embed", name)
    about_models = about_model(model, len(structure), name)
    for position in reversed(range(len(structure))):
        if position != model - 1:
            del structure[position]
    if structure[0].count_atom_sites() == 0:
        raise StructureError(f"model {model} holds no atoms; there is nothing to embed", name)
    is_measured = is_experiment(info_of(structure, "_exptl.method"))
    is_predicted = not is_measured and is_title_of_prediction(info_of(structure, "_struct.title"))
    structure.setup_entities()
    labelled = structure.input_format in (gemmi.CoorFormat.Mmcif, gemmi.CoorFormat.Mmjson)
    if not labelled:
        structure.assign_label_seq_id()
    pairs = [(part, chain.name, residue) for part, chain in enumerate(structure[0]) for residue in chain]
    residues = [residue for _, _, residue in pairs]
    polymer = gemmi.EntityType.Polymer
    names = [r.name for r in residues]
    label_chain = [r.subchain if labelled else "" for r in residues]
    atoms: dict[str, Any] = _backbone_of_gemmi(structure, names, [len(r) for r in residues], is_predicted)
    return Stretches(
        chain=[chain for _, chain, _ in pairs],
        number=[r.seqid.num for r in residues],
        insertion_code=[r.seqid.icode.strip() for r in residues],
        name=names,
        declared=[r.het_flag != "H" or r.entity_type == polymer for r in residues],
        label_chain=label_chain,
        label_seq=[r.label_seq for r in residues],
        segment=["" if labelled else r.segment.strip() for r in residues],
        part=[part for part, _, _ in pairs],
        section=[0] * len(residues),
        copy=[""] * len(residues),
        **atoms,
        parents={m.res_id.name: m.parent_comp_id for m in structure.mod_residues},
        entities={s: str(e.name) for e in structure.entities for s in e.subchains} if labelled else {},
        labelled=labelled,
        is_measured=lambda: is_measured,
        about_models=about_models,
    )


def _backbone_of_gemmi(
    structure: gemmi.Structure, names: list[str], sizes: list[int], is_predicted: bool
) -> dict[str, NDArray[Any]]:
    residue = np.repeat(np.arange(len(sizes)), sizes)
    flat = _flatten(structure)  # from here on names in the structure may be gone
    atom = np.asarray(flat.atom_names)
    code = np.full(len(atom), -1, dtype=np.int64)
    for atom_name, number in BACKBONE.items():
        code[atom == atom_name.encode()] = number
    kept = np.flatnonzero(code >= 0)
    at_ca = np.flatnonzero(code[kept] == CA)
    elements = np.asarray(flat.elements)[kept][at_ca]
    symbols = {6: "C", 20: "CA", 0: ""}
    fine = carbons([symbols.get(e, "N") for e in elements.tolist()], [names[r] for r in residue[kept][at_ca]])
    kept = np.delete(kept, at_ca[~fine])
    plddt = np.full(len(kept), np.nan)
    if is_predicted:
        plddt = plddt_of_b_factors(np.asarray(flat.b_iso)[kept].astype(np.float64), code[kept] == CA)
    return {
        "stretch": residue[kept],
        "atom": code[kept],
        "altloc": np.asarray(flat.altlocs)[kept].astype(np.int64),
        "occupancy": np.asarray(flat.occ)[kept].astype(np.float64),
        "plddt": plddt,
        "position": np.array(flat.pos)[kept],
    }


def info_of(structure: gemmi.Structure, tag: str) -> str:
    """Return an entry of a structure's metadata, "" if there is none; gemmi's container has no get()."""
    return structure.info[tag] if tag in structure.info else ""  # noqa: SIM401


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


def stretches_of_biotite(x: Any, model: int, name: str) -> Stretches:
    """Return a Biotite AtomArray, or the model-th array of an AtomArrayStack.

    Raises
    ------
    StructureError
        Also for whatever another library raises while its structure is looked at.
    """
    try:
        return _of_arrays(x, model, name)
    except ProtembError:
        raise
    except Exception as error:
        raise _unreadable(name, error) from error


def _of_arrays(x: Any, model: int, name: str) -> Stretches:
    coord = np.ma.filled(np.ma.asarray(x.coord).astype(np.float64), np.nan)
    models = coord.shape[0] if coord.ndim == 3 else 1
    about_models = about_model(model, models, name)
    coord = coord[model - 1] if coord.ndim == 3 else coord
    size = len(coord)
    if size == 0:
        raise StructureError("holds no atoms; there is nothing to embed", name)

    def column(attribute: str, default: Any, dtype: Any) -> NDArray[Any]:
        values = getattr(x, attribute, None)
        return np.full(size, default, dtype=dtype) if values is None else np.asarray(values).astype(dtype)

    texts = [
        np.char.strip(column(attribute, "", np.str_))
        for attribute in ("chain_id", "ins_code", "res_name", "label_asym_id", "sym_id", "segment_id")
    ]
    chain, insertion_code, names, label_chain, copy, segment = texts
    number, label_seq = column("res_id", 0, np.int64), column("label_seq_id", "", np.str_)
    het = column("hetero", False, bool)
    changes = np.zeros(size, dtype=bool)
    for values in (*texts, number, label_seq):
        changes[1:] |= values[1:] != values[:-1]
    stretch, first = np.cumsum(changes), np.flatnonzero(np.concatenate([[True], changes[1:]]))

    atom = np.char.strip(column("atom_name", "", np.str_))
    code = np.full(size, -1, dtype=np.int64)
    for atom_name, of_backbone in BACKBONE.items():
        code[atom == atom_name] = of_backbone
    kept = np.flatnonzero(code >= 0)
    at_ca = np.flatnonzero(code[kept] == CA)
    elements = column("element", "", np.str_)[kept][at_ca].tolist()
    kept = np.delete(kept, at_ca[~carbons(elements, names[kept][at_ca].tolist())])
    altloc = column("altloc_id", "", "U1")[kept].tolist()
    copies = copy[first].tolist()
    return Stretches(
        chain=chain[first].tolist(),
        number=number[first].tolist(),
        insertion_code=insertion_code[first].tolist(),
        name=names[first].tolist(),
        declared=(~het[first]).tolist(),
        label_chain=label_chain[first].tolist(),
        label_seq=[integer(n) for n in label_seq[first].tolist()],
        segment=segment[first].tolist(),
        part=[0] * len(first),
        section=[0] * len(first),
        copy=copies,
        stretch=stretch[kept],
        atom=code[kept],
        altloc=np.array([0 if c in ("", ".", "?", " ") else ord(c) for c in altloc], dtype=np.int64),
        occupancy=np.nan_to_num(column("occupancy", 1.0, np.float64)[kept], nan=1.0),
        plddt=np.full(len(kept), np.nan),  # nothing tells a predicted model
        position=coord[kept],
        labelled=bool((label_chain != "").any()),
        about_models=about_models,
    )


def stretches_of_biopython(x: Any, model: int, name: str) -> Stretches:
    """Return a Biopython Structure, by the position of its model, a Model or a Chain."""
    try:
        models = list(x) if x.level == "S" else [x]
        about_models = about_model(model, len(models), name)
        found = models[model - 1]
        rows = [
            (chain.id, *residue.id, residue.resname, residue.segid, atom)
            for chain in (found if found.level == "M" else [found])
            for residue in chain.get_unpacked_list()
            for atom in residue.get_unpacked_list()
        ]
        chains, kinds, numbers, codes, names, segments, atoms = zip(*rows, strict=True) if rows else ((),) * 7
        arrays = SimpleNamespace(
            coord=np.array([atom.coord for atom in atoms]).reshape(-1, 3),
            chain_id=chains,
            hetero=[kind.strip() != "" for kind in kinds],
            res_id=numbers,
            ins_code=codes,
            res_name=names,
            segment_id=segments,
            atom_name=[atom.name for atom in atoms],
            element=[atom.element or "" for atom in atoms],
            altloc_id=[atom.altloc for atom in atoms],
            occupancy=[1.0 if atom.occupancy is None else atom.occupancy for atom in atoms],
        )
    except ProtembError:
        raise
    except Exception as error:
        raise _unreadable(name, error) from error
    read = stretches_of_biotite(arrays, 1, name)
    read.about_models = about_models
    return read


def _unreadable(name: str, error: Exception) -> StructureError:
    said = " ".join(str(error).split()) or type(error).__name__
    return StructureError(f"the structure cannot be read ({said[:200]})", name)
