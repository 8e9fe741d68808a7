"""The pre-training objectives on validation chains: denoising, residue types, contact sites."""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from protemb_train.corpus.corpus import Corpus
from protemb_train.corpus.cuts import CutRule, cut_chains
from protemb_train.downstream.sites.bootstrap import average_precisions
from protemb_train.encoders.vectors import VectorEncoder
from protemb_train.evaluate.embedded import Contents, Piece
from protemb_train.evaluate.measures import Measure, draws_of, mean_of
from protemb_train.network.features import UNKNOWN
from protemb_train.network.network import ScoreNetwork
from protemb_train.pretrain.judge import STATE_CHAINS, judge

DENOISED, EVERY = 12, 4
"""Number and lengths of validation chains, denoised at every fourth noise level."""
PIECES = 120
"""Number of pieces of training chains for the linear predictor of contact sites."""
LENGTHS = (50, 200)
ALPHA = 300.0
"""Regularisation of the ridge regression on about 13,000 residues."""


def denoising(network: ScoreNetwork, validation: Corpus) -> tuple[Measure, dict[str, float]]:
    """Return the loss relative to the zero predictor, over all levels and by level.

    Chains and noise are the same for every network.
    """
    positions = validation.one_per_cluster(DENOISED, LENGTHS)
    shares = np.stack(
        [judge(network, [validation[p]], seed=n, every=EVERY).share for n, p in enumerate(positions)]
    )
    by_level = {
        f"{float(s):.3g}": round(float(v), 4)
        for s, v in zip(network.levels_K[::EVERY], shares.mean(axis=0), strict=True)
    }
    return mean_of(shares.mean(axis=1)), by_level


def types(encoder: VectorEncoder, validation: Corpus) -> dict[str, Measure]:
    """Return accuracy and cross entropy (nats) of residue types, predicted from structure alone.

    Empty if the encoder does not predict them.
    """
    right, nats, count = [], [], []
    for position in validation.one_per_cluster(STATE_CHAINS, LENGTHS):
        trace = validation[position]
        profile = encoder.log_profile(trace.ca_coords, trace.residue_index)
        if profile is None:
            return {}
        known = trace.residue_type != UNKNOWN
        true = trace.residue_type[known]
        right.append((profile[known].argmax(axis=1) == true).mean())
        nats.append(-profile[known, true].mean())
        count.append(known.sum())
    return {
        "type_accuracy": mean_of(np.array(right), np.array(count)),
        "type_nats": mean_of(np.array(nats), np.array(count)),
    }


def contact_sites(contents: Contents, training: Corpus, validation: Corpus) -> dict[str, Measure]:
    """Return the average precision of contact sites of cut chains, by a linear predictor, for each content.

    It is fitted on pieces of training chains and evaluated on pieces of validation chains.
    """
    rule = CutRule(longest=LENGTHS[1], pieces=1)
    sides: list[tuple[list[Piece], list[NDArray[np.bool_]]]] = []
    for corpus, most in ((training, PIECES), (validation, STATE_CHAINS)):
        found = [
            (Piece.of(trace, slice(cuts[0].first, cuts[0].behind)), cuts[0].touching)
            for _, trace, cuts in islice(cut_chains(corpus, rule), most)
        ]
        sides.append(([piece for piece, _ in found], [touching for _, touching in found]))
    (fitted, fit_labels), (tested, labels) = sides
    embedded = [contents.embed(pieces) for pieces in (fitted, tested)]
    measures = {}
    for content in contents.names:
        model = make_pipeline(StandardScaler(), Ridge(ALPHA))
        x, y = (np.concatenate([e.residue for e in side[content]]).astype(np.float64) for side in embedded)
        model.fit(x, np.concatenate(fit_labels).astype(np.float64))
        predicted = model.predict(y)
        lengths = np.array([len(piece) for piece in tested])
        drawn = draws_of(len(tested)).astype(np.int64)
        measures[content] = Measure.of(average_precisions(np.concatenate(labels), predicted, lengths, drawn))
    return measures
