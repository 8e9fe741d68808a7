"""What is learnt from and what is watched: real models by target, and models made of natives."""

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
"""Residues of a model that is learnt from: graphs and maps of longer ones cost more than they teach."""
SHARE = 1 / 5
"""Of the families of real targets, watched and not learnt from."""


def sequences_tested(path: Path) -> list[str]:
    """Return the sequences of the test models of a file: neither their coordinates nor their scores."""
    z = read_arrays(path, ("seq", "offset", "split"), "a set of models")
    letters, ends = z["seq"].tobytes().decode("ascii"), z["offset"].tolist()
    return sorted({letters[ends[n] : ends[n + 1]] for n in np.flatnonzero(z["split"] == "test")})


def real_decoys(path: Path, seed: int = 0) -> tuple[list[Decoy], list[Decoy], list[str]]:
    """Return real models to learn from and to watch, split by family, and the targets left out.

    Left out are targets with a relative among the test targets, and models longer than `LONGEST` residues.

    Parameters
    ----------
    path : Path
        The shared set of models.
    seed : int
        Same seed, same split.
    """
    decoys = [d for d in read_decoys(path) if len(d) <= LONGEST]
    names = sorted({d.target for d in decoys})
    longest = {n: max((d for d in decoys if d.target == n), key=len) for n in names}
    relatives = exact_relatives(sequences_tested(path), [longest[n].sequence for n in names])
    out = {names[k] for k in relatives}
    kept = [n for n in names if n not in out]
    family = dict(zip(kept, families([longest[n] for n in kept]), strict=True))
    groups = np.random.default_rng(seed).permutation(sorted(set(family.values())))
    # Families of many models first in turn: a fifth of them is watched as well.
    sizes = {g: sum(family.get(d.target) == g for d in decoys) for g in groups}
    order = sorted(groups, key=lambda g: -sizes[g])
    watched = {g for k, g in enumerate(order) if k % round(1 / SHARE) == 1}
    sides: tuple[list[Decoy], list[Decoy]] = ([], [])
    for d in decoys:
        if d.target in family:
            held = family[d.target] in watched
            sides[held].append(replace(d, split="val" if held else "train"))
    return *sides, sorted(out)


def learnable(real: Sequence[Decoy], made: Sequence[Decoy], longest: int = LONGEST) -> list[Decoy]:
    """Return models that may be learnt from, real and made."""
    return [d for d in (*real, *made) if len(d) <= longest]


def few_a_target(
    decoys: Sequence[Decoy], most: int, least: int = 4, targets: int | None = None
) -> list[Decoy]:
    """Return models of targets that have at least `least`, the first `most` of each.

    Parameters
    ----------
    decoys : sequence of Decoy
    most, least : int
        Models of a target.
    targets : int, optional
        How many targets at most, in the order of their models; all by default.
    """
    groups: dict[str, list[Decoy]] = {}
    for d in decoys:
        groups.setdefault(d.target, []).append(d)
    kept = [group for group in groups.values() if len(group) >= least]
    return [d for group in kept[:targets] for d in group[:most]]
