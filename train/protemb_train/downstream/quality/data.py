"""Training and validation models: published models by target, and models generated from natives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from protemb_train.base.arrays import read_arrays
from protemb_train.corpus.exact import exact_relatives
from protemb_train.downstream.common.overlap import families
from protemb_train.downstream.quality.decoys import Decoy, read_decoys

LONGEST = 400
"""Residues; longer models are not used for training: their graphs and maps cost too much."""
SHARE = 1 / 5
"""Share of the families of real targets used for validation."""


def sequences_tested(path: Path) -> list[str]:
    """Return the sequences of the test models of a file, without reading coordinates or scores."""
    z = read_arrays(path, ("seq", "offset", "split"), "a set of models")
    letters, ends = z["seq"].tobytes().decode("ascii"), z["offset"].tolist()
    return sorted({letters[ends[n] : ends[n + 1]] for n in np.flatnonzero(z["split"] == "test")})


def real_decoys(path: Path, seed: int = 0) -> tuple[list[Decoy], list[Decoy], list[str]]:
    """Return real models for training and validation, split by family, and the excluded targets.

    Excluded are targets with a relative among the test targets, and models longer than `LONGEST` residues.

    Parameters
    ----------
    path : Path
        The shared set of models.
    seed : int
        The same seed gives the same split.
    """
    decoys = [d for d in read_decoys(path) if len(d) <= LONGEST]
    names = sorted({d.target for d in decoys})
    longest = {n: max((d for d in decoys if d.target == n), key=len) for n in names}
    relatives = exact_relatives(sequences_tested(path), [longest[n].sequence for n in names])
    out = {names[k] for k in relatives}
    kept = [n for n in names if n not in out]
    family = dict(zip(kept, families([longest[n] for n in kept]), strict=True))
    groups = np.random.default_rng(seed).permutation(sorted(set(family.values())))
    # Families in order of their number of models, so that a fifth of the models is used for validation.
    sizes = {g: sum(family.get(d.target) == g for d in decoys) for g in groups}
    order = sorted(groups, key=lambda g: -sizes[g])
    validation = {g for k, g in enumerate(order) if k % round(1 / SHARE) == 1}
    sides: tuple[list[Decoy], list[Decoy]] = ([], [])
    for d in decoys:
        if d.target in family:
            is_validation = family[d.target] in validation
            sides[is_validation].append(replace(d, split="val" if is_validation else "train"))
    return *sides, sorted(out)


def training_models(real: Sequence[Decoy], made: Sequence[Decoy], longest: int = LONGEST) -> list[Decoy]:
    """Return models for training, real and generated, of at most `longest` residues."""
    return [d for d in (*real, *made) if len(d) <= longest]


def few_per_target(
    decoys: Sequence[Decoy], most: int, least: int = 4, targets: int | None = None
) -> list[Decoy]:
    """Return models of targets that have at least `least`, the first `most` of each.

    Parameters
    ----------
    decoys : sequence of Decoy
    most, least : int
        Numbers of models per target.
    targets : int, optional
        Largest number of targets, in the order of their models; all by default.
    """
    groups: dict[str, list[Decoy]] = {}
    for d in decoys:
        groups.setdefault(d.target, []).append(d)
    kept = [group for group in groups.values() if len(group) >= least]
    return [d for group in kept[:targets] for d in group[:most]]
