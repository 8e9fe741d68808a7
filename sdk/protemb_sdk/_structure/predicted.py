"""Predicted models: which files hold pLDDT, on which scale, and the residues below a limit.

A file holds pLDDT if it is

- mmCIF, mmJSON or BinaryCIF, and `_ma_qa_metric` declares a local metric of type pLDDT (AlphaFold DB,
  AlphaFold 3, ModelCIF of other programs), other than the predictions of protemb. Values are those of
  `_ma_qa_metric_local`, or B-factors if this table is missing;
- PDB, or a `gemmi.Structure`, that names no experiment and has a title as AlphaFold DB and the ESM Atlas
  write it: "ALPHAFOLD MONOMER V2.0 PREDICTION FOR ..." or "ESMFOLD V1 PREDICTION FOR ...", or the
  identifier of an entry of theirs as title, which foldcomp writes. Values are B-factors.

Nothing else is taken for pLDDT. The range of B-factors does not tell: those of crystals, other scores of
homology models, and values of molecular dynamics lie within 0 to 100, too.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.folders import stem
from protemb_sdk._base.identifiers import identifier_of
from protemb_sdk._structure.atoms import CA, Stretches, Table

_TITLE = re.compile(r"\s*(?:ALPHAFOLD|ESMFOLD)\b.*\bPREDICTION FOR\b", re.IGNORECASE)
_ATLAS = re.compile(r"MGYP[0-9]{9,15}", re.IGNORECASE | re.ASCII)

FACTORS = {
    "plddt": 1.0,
    "plddt all-atom": 1.0,
    "plddt in [0,1]": 100.0,
    "plddt all-atom in [0,1]": 100.0,
}
"""Types of `_ma_qa_metric` in lower case, with what brings them to 0 to 100."""

OWN_METRICS = "protemb "
"""Names of metrics that protemb writes begin with it; they are not the confidence of who made the model."""


def is_title_of_prediction(title: str) -> bool:
    """Tell whether a title is that of a model by AlphaFold or ESMFold, or its identifier."""
    if _TITLE.match(title):
        return True
    name = stem(title.strip())
    found = identifier_of(name)
    return (found is not None and found.database == "AlphaFold DB") or _ATLAS.fullmatch(name) is not None


def is_experiment(method: str) -> bool:
    """Tell whether EXPDTA or `_exptl.method` names an experiment."""
    return bool(method.strip()) and not method.strip().upper().startswith("THEORETICAL")


def plddt_of_b_factors(b_factor: NDArray[np.float64], is_ca: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return B-factors of a predicted model as pLDDT.

    Parameters
    ----------
    b_factor : ndarray, float64, shape (atoms,)
    is_ca : ndarray, bool, shape (atoms,)
        C-alphas; the scale is theirs.

    Returns
    -------
    ndarray, float64, shape (atoms,)
        0 to 100. B-factors that are all at most 1 (ESM Atlas) are multiplied by 100. NaN for all atoms if one
        is not between 0 and 100 or all are 0: then another program has replaced them.
    """
    known = b_factor[is_ca]
    if not known.size or not ((known >= 0) & (known <= 100)).all() or not known.any():
        return np.full_like(b_factor, np.nan)
    return b_factor * (100 if known.max() <= 1 else 1)


def notes_without_plddt(found: Stretches, min_plddt: float, where: str) -> list[str]:
    """Return a note if `min_plddt` does not apply, because the structure is experimental.

    Raises
    ------
    StructureError
        If it cannot be told whether B-factors are pLDDT.
    """
    if np.isfinite(found.plddt[found.atom == CA]).any():
        return []
    if found.is_measured():
        return ["an experimental structure, used whole: it has no pLDDT"]
    raise StructureError(
        f"does not say that it is a predicted model with pLDDT, so min_plddt={min_plddt:g} cannot be "
        "applied; read this structure without it",
        where,
    )


def low_residues(table: Table, ca: NDArray[np.int64], min_plddt: float | None) -> NDArray[np.bool_]:
    """Tell which residues have a pLDDT below the limit; one without a value has not, shape (residues,)."""
    low = np.zeros(len(table.name), dtype=bool)
    if min_plddt is not None:
        low[table.residue[ca]] = table.plddt[ca] < min_plddt
    return low


def too_few(count: int, min_plddt: float, min_residues: int) -> tuple[str, str]:
    """Return a kind of reason, and the reason, for a chain of which too few residues are left."""
    high = f"with pLDDT of {min_plddt:g} or more"
    if not count:
        return (f"has no residue {high}",) * 2
    short = f"{high}, fewer than min_residues={min_residues}"
    return f"has residues {short}", f"has {count} residue{'s' * (count > 1)} {short}"
