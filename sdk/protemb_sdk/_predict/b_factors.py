"""Predictions in the B-factor column of a copy of their structure, for viewers that colour by it."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import OutputError, StructureError
from protemb_sdk._base.output import writable_target, written_whole
from protemb_sdk._predict.metric import Metric, add_metrics
from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.files import load, parse
from protemb_sdk._structure.predicted import is_title_of_prediction
from protemb_sdk._structure.tables import info_of

if TYPE_CHECKING:
    import gemmi

    from protemb_sdk._predict.metric import Value

_ENDING = re.compile(r"\.(?:(pdb|ent)|(?:mm)?cif)(\.gz)?$", re.IGNORECASE)


class PerResidue(Protocol):
    """A prediction with one value, 0 to 1, for each residue of a chain."""

    @property
    def chain(self) -> Chain: ...
    @property
    def residue_value(self) -> NDArray[np.float32]: ...
    @property
    def residue_metric(self) -> Metric: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...


Key = tuple[int, str]  # number, insertion code
Found = tuple[int, int]  # position of a prediction, and of a residue in it


def has_structure_ending(path: Path) -> bool:
    """Tell by its ending whether a structure can be written there."""
    return _ENDING.search(path.name) is not None


def check_structure_target(path: Path) -> Path:
    """Return the path, after checking that a structure can be written there.

    Raises
    ------
    OutputError
        If it ends neither as PDB nor as mmCIF, or its folder does not exist.
    """
    if not has_structure_ending(path):
        raise OutputError("end the name in .pdb or .cif, with .gz where it shall be compressed", path)
    return writable_target(path)


def write_b_factors(
    source_path: str | PathLike[str], out_path: str | PathLike[str], predictions: Iterable[PerResidue]
) -> Path:
    """Write a copy of a structure with its predictions as B-factors.

    Every atom of a predicted residue gets its value in percent, 0 to 100 as AlphaFold's pLDDT, so
    that two decimals survive in a PDB file; every other atom gets 0. Anisotropic temperature factors are
    left out, as they would contradict the B-factors. An mmCIF also has the values as `_ma_qa_metric_local`,
    of the first residue where several share a name. The title of a predicted model is changed, so that these
    B-factors are not taken for its pLDDT.

    A residue is known by model, number and insertion code, and among several of these by its C-alpha
    position, and by the chain name; conformers of one site with several residue types get one value.

    Parameters
    ----------
    source_path : path
        The structure that was predicted: a file of any format, also gzipped.
    out_path : path
        PDB (.pdb, .ent) or mmCIF (.cif, .mmcif) by its ending, gzipped with .gz; written whole or not at
        all. An mmCIF keeps what gemmi keeps of the entry: atoms, cell, symmetry, entities, connections.
    predictions : iterable of PerResidue
        Of any of its chains.

    Raises
    ------
    StructureError
        If the structure cannot be read, or lacks a residue that was predicted.
    OutputError
        If the file cannot be written, or the structure does not fit into PDB format.
    """
    target, where = check_structure_target(Path(out_path)), str(source_path)
    structure = parse(load(Path(source_path), where), where)
    structure.setup_entities()
    structure.assign_label_seq_id()  # what has some keeps them
    by_model: dict[int, list[PerResidue]] = {}
    for prediction in predictions:
        by_model.setdefault(prediction.provenance.get("options", {}).get("model", 1), []).append(prediction)
    if missing := [number for number in by_model if not 1 <= number <= len(structure)]:
        raise StructureError(f"has no model {missing[0]}, of which a chain was predicted", where)
    values: list[Value] = []
    for number, model in enumerate(structure, start=1):
        values += _fill(model, by_model.get(number, []), where)
    title = info_of(structure, "_struct.title")
    if is_title_of_prediction(title):
        structure.info["_struct.title"] = f"B-FACTORS BY PROTEMB: {title}"
    content = _as_text(structure, values, target, pdb=_is_pdb(target)).encode()
    with written_whole(target) as part:
        part.write_bytes(gzip.compress(content, mtime=0) if target.name.lower().endswith(".gz") else content)
    return target


def _is_pdb(path: Path) -> bool:
    ending = _ENDING.search(path.name)
    return ending is not None and ending[1] is not None


def _fill(model: gemmi.Model, predictions: Sequence[PerResidue], where: str) -> list[Value]:
    """Put the values into one model, and zero everywhere else; return what each residue got."""
    import gemmi

    rows: dict[Key, list[Found]] = {}
    for p, prediction in enumerate(predictions):
        chain = prediction.chain
        numbers = zip(chain.auth_seq.tolist(), chain.insertion_code.tolist(), strict=True)
        for i, (number, code) in enumerate(numbers):
            rows.setdefault((number, code), []).append((p, i))
    met: set[Found] = set()
    given: list[Value] = []
    for key, chain_name, residue in _residues(model):
        found = _rows_of(residue, chain_name, rows.get(key, []), predictions)
        met.update(found)
        # gemmi joins residues of molecules that share a name: each atom has the value of the nearest C-alpha.
        values = [float(predictions[p].residue_value[i]) for p, i in found] or [0.0]
        if found:
            given.append((predictions[found[0][0]].residue_metric, model.num, residue, values[0]))
        places = [predictions[p].chain.ca_coords[i] for p, i in found]
        for atom in residue:
            nearest = 0
            if len(set(values)) > 1:
                nearest = int(np.argmin([np.linalg.norm(place - atom.pos.tolist()) for place in places]))
            atom.b_iso = round(100 * values[nearest], 2)
            atom.aniso = gemmi.SMat33f(0, 0, 0, 0, 0, 0)
    for (number, code), wanted in rows.items():
        for p, i in wanted:
            if (p, i) not in met:
                chain = predictions[p].chain
                raise StructureError(
                    f"holds no residue {number}{code} of chain {chain.chain_id!r}, which was predicted "
                    f"for {chain.id}; pass the structure that was predicted",
                    where,
                )
    return given


def _residues(model: gemmi.Model) -> Iterator[tuple[Key, str, gemmi.Residue]]:
    position = 0
    for chain in model:
        for residue in chain:
            position += 1  # the number of a residue that has none
            number = position if residue.seqid.num is None else residue.seqid.num
            yield (number, residue.seqid.icode.strip()), chain.name, residue


def _alpha_carbons(residue: gemmi.Residue) -> list[list[float]]:
    """Return where its C-alphas lie; none for a calcium."""
    return [atom.pos.tolist() for atom in residue if atom.name == "CA" and residue.name != "CA"]


# Files give three decimals.
_SAME_PLACE = 0.01


def _rows_of(
    residue: gemmi.Residue, chain: str, rows: Sequence[Found], predictions: Sequence[PerResidue]
) -> list[Found]:
    """Return the predicted residues that this one is: one, none, or the same one predicted twice.

    They lie where it does; or, as the other types of a site, they bear the name of its chain.
    """
    carbons = _alpha_carbons(residue) if rows else []
    if not carbons:
        return []
    at = np.array([predictions[p].chain.ca_coords[i] for p, i in rows])
    away = np.linalg.norm(at[:, None] - np.array(carbons), axis=2).min(axis=1)
    named = np.array([_fits(residue, chain, predictions[p].chain) for p, _ in rows])
    lettered = np.array([not chain.strip() or _has_letter(chain, predictions[p].chain) for p, _ in rows])
    near = (away < _SAME_PLACE) & lettered  # chains may lie in one place
    near = near & named if (near & named).any() else near
    if near.any():
        return [row for row, is_near in zip(rows, near.tolist(), strict=True) if is_near]
    if not named.any() or away[named].min() > _LARGEST_SITE:
        return []
    return [row for row, d, n in zip(rows, away, named, strict=True) if n and d == away[named].min()]


# Conformers of a site lie within it.
_LARGEST_SITE = 4.0


def _fits(residue: gemmi.Residue, chain: str, read: Chain) -> bool:
    """Whether a chain that was read bears the names of one in the file."""
    is_label = not read.label_chain or residue.subchain == read.label_chain
    return is_label and _has_letter(chain, read)


def _has_letter(chain: str, read: Chain) -> bool:
    return read.chain_id.split("-")[0] in (chain, chain.split("-")[0])


def _as_text(structure: gemmi.Structure, values: Sequence[Value], target: Path, *, pdb: bool) -> str:
    long = [chain.name for model in structure for chain in model if len(chain.name) > 2]
    if pdb and long:
        raise OutputError(f"the chain name {long[0]!r} does not fit into PDB format; write .cif", target)
    try:
        if pdb:
            return structure.make_pdb_string()
        document = structure.make_mmcif_document()
        add_metrics(document.sole_block(), values)
        return document.as_string()
    except (RuntimeError, ValueError) as error:
        raise OutputError(f"the structure cannot be written ({error})", target) from error
