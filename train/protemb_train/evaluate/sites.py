"""Interface sites by cross-validation on training chains; test chains are not read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from protemb_train.downstream.common.embeddings import Embedded
from protemb_train.downstream.common.overlap import families
from protemb_train.downstream.sites.batches import as_tensors, validation_split
from protemb_train.downstream.sites.bootstrap import average_precisions
from protemb_train.downstream.sites.data import SiteChain
from protemb_train.downstream.sites.networks import find_network
from protemb_train.downstream.sites.rows import VALIDATION_SHARE
from protemb_train.downstream.sites.training import train
from protemb_train.evaluate.measures import Measure, draws_of

FOLDS = 3
HEADS = {"graph": False, "deepppisp": True}
"""Networks by name, and whether they use PSSM and DSSP."""


def folds_by_family(family: Sequence[int], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each chain; families are not divided, and folds have about equal size.

    Parameters
    ----------
    family : sequence of int
        Family of each chain.
    folds : int
        Number of folds.
    seed : int
        The same seed gives the same folds.
    """
    names, sizes = np.unique(family, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(folds, dtype=np.int64)
    fold_of: dict[int, int] = {}
    for n in order:
        fold = int(filled.argmin())
        fold_of[int(names[n])] = fold
        filled[fold] += sizes[n]
    return np.array([fold_of[int(name)] for name in family])


def cross_validated(
    chains: Sequence[SiteChain],
    embedded: Sequence[Embedded],
    network: str,
    seeds: Sequence[int],
    say: Callable[[str], None] = lambda line: None,
) -> Measure:
    """Return the AUPRC over all residues of all chains, each predicted by a network not trained on it.

    Relatives are in one fold. The result is the mean over the seeds, which also determine the folds.

    Parameters
    ----------
    chains : sequence of SiteChain
        Labelled chains, none of them a test chain.
    embedded : sequence of Embedded
        Their vectors.
    network : str
        One of `HEADS`.
    seeds : sequence of int
        One cross-validation per seed.
    say : callable
        Called with a message after each seed.
    """
    make, recipe = find_network(network)
    tensors = as_tensors(chains, embedded, features=HEADS[network], graph=recipe.graph)
    family_of = families(chains)
    lengths = np.array([len(t.label_L) for t in tensors])
    label = np.concatenate([t.label_L.numpy() > 0.5 for t in tensors])
    drawn = draws_of(len(chains)).astype(np.int64)
    found = []
    for seed in seeds:
        predicted: dict[int, NDArray[np.float32]] = {}
        fold_of = folds_by_family(family_of, FOLDS, seed)
        for fold in range(FOLDS):
            rest, tested = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            learning, validation = validation_split([family_of[n] for n in rest], VALIDATION_SHARE, seed)
            sides = [rest[learning].tolist(), rest[validation].tolist(), tested.tolist()]
            fitted, held_out, tests = ([tensors[n] for n in side] for side in sides)
            run = train(make, fitted, held_out, tests, recipe, seed=seed)
            predicted |= dict(zip(sides[2], run.test, strict=True))
        probability = np.concatenate([predicted[n] for n in range(len(chains))])
        found.append(average_precisions(label, probability, lengths, drawn))
        say(f"sites, {network}, seed {seed}: AUPRC {found[-1][0]:.3f}")
    return Measure.of(np.mean(found, axis=0))
