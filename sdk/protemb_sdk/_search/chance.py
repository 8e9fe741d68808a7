"""How often two unrelated chains reach a TM-score: a Gumbel distribution that depends on their lengths.

Fitted to superpositions of random chains of different 30% clusters, the highest tenth of scores censored,
because some of these chains do have the same fold: `benchmarks/chance.py` fits it and tests it on others.
"""

from __future__ import annotations

import math

LOCATION = (0.2639, -0.0058, -0.0276)
"""Weights of 1, log(shorter length / 100) and log(longer / shorter length)."""
LOG_SCALE = (-2.8756, -0.5210, -0.3197)
"""Weights of the same, for the logarithm of the scale."""
USUAL = 100.0


def p_value(tm_score: float, query: int, target: int) -> float:
    """Return the probability that two unrelated chains have this TM-score or a higher one.

    Parameters
    ----------
    tm_score : float
        Mean of the TM-scores by both lengths.
    query, target : int
        Lengths of the chains.
    """
    short, long = sorted((query, target))
    features = (1.0, math.log(short / USUAL), math.log(long / short))
    location, log_scale = (
        sum(weight * x for weight, x in zip(weights, features, strict=True))
        for weights in (LOCATION, LOG_SCALE)
    )
    return -math.expm1(-math.exp((location - tm_score) / math.exp(log_scale)))
