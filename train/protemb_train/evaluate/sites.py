"""Interface sites by cross-validation on training chains; test chains are not read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from protemb_train.downstream.common.embeddings import Embedded
from protemb_train.downstream.common.overlap import families, folds_by_family
from protemb_train.downstream.sites.batches import as_tensors, validation_split
from protemb_train.downstream.sites.bootstrap import average_precisions
from protemb_train.downstream.sites.data import SiteChain
from protemb_train.downstream.sites.networks import find_network
from protemb_train.downstream.sites.rows import VALIDATION_SHARE
from protemb_train.downstream.sites.training import train
from protemb_train.evaluate.measures import Measure, draws_of

FOLDS = 3
LINEAR = "linear"
HEADS = {"graph": False, "deepppisp": True, LINEAR: False}
"""Networks by name, and whether they use PSSM and DSSP. `LINEAR` is ridge regression on the vectors of a
residue and on the mean of its neighbours; it takes seconds."""
ALPHA = 1e3
"""Regularisation of the ridge regression on standardised vectors."""
NEAR = 10.0
"""Distance of neighbours in angstrom."""

Predict = Callable[[list[int], list[int], list[int], int], list[NDArray[np.float32]]]
"""From places of training, validation and test chains, and a seed: values of the residues of test chains."""


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
    predict = _linear(chains, embedded) if network == LINEAR else _trained(chains, embedded, network)
    family_of = families(chains)
    lengths = np.array([chain.cut for chain in chains])
    label = np.concatenate([chain.label[: chain.cut] for chain in chains])
    drawn = draws_of(len(chains)).astype(np.int64)
    found = []
    for seed in seeds:
        predicted: dict[int, NDArray[np.float32]] = {}
        fold_of = folds_by_family(family_of, FOLDS, seed)
        for fold in range(FOLDS):
            rest, tested = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            learning, validation = validation_split([family_of[n] for n in rest], VALIDATION_SHARE, seed)
            sides = rest[learning].tolist(), rest[validation].tolist(), tested.tolist()
            predicted |= dict(zip(sides[2], predict(*sides, seed), strict=True))
        probability = np.concatenate([predicted[n] for n in range(len(chains))])
        found.append(average_precisions(label, probability, lengths, drawn))
        say(f"sites, {network}, seed {seed}: AUPRC {found[-1][0]:.3f}")
    return Measure.of(np.mean(found, axis=0))


def _trained(chains: Sequence[SiteChain], embedded: Sequence[Embedded], network: str) -> Predict:
    make, recipe = find_network(network)
    tensors = as_tensors(chains, embedded, features=HEADS[network], graph=recipe.graph)

    def predict(
        learning: list[int], validation: list[int], tested: list[int], seed: int
    ) -> list[NDArray[np.float32]]:
        fitted, held_out, tests = ([tensors[n] for n in side] for side in (learning, validation, tested))
        return train(make, fitted, held_out, tests, recipe, seed=seed).test

    return predict


def _linear(chains: Sequence[SiteChain], embedded: Sequence[Embedded]) -> Predict:
    inputs, seen = [], [chain.seen[: chain.cut] for chain in chains]
    for chain, vectors, known in zip(chains, embedded, seen, strict=True):
        own, coords = vectors.residue[: chain.cut][known], chain.ca_coords[: chain.cut][known]
        near = (cdist(coords, coords) < NEAR).astype(np.float32)
        inputs.append(np.concatenate([own, near @ own / near.sum(axis=1, keepdims=True)], axis=1))

    def predict(
        learning: list[int], validation: list[int], tested: list[int], seed: int
    ) -> list[NDArray[np.float32]]:
        both = [*learning, *validation]
        model = make_pipeline(StandardScaler(), Ridge(ALPHA))
        label = np.concatenate([chains[n].label[: chains[n].cut][seen[n]] for n in both])
        model.fit(np.concatenate([inputs[n] for n in both]), label.astype(np.float32))
        found = []
        for n in tested:
            values = np.full(len(seen[n]), label.mean(), dtype=np.float32)  # the rest has no coordinates
            values[seen[n]] = model.predict(inputs[n])
            found.append(values)
        return found

    return predict
