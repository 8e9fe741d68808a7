"""TM-align through the package tmtools (GPL), used for training and tests only, never by the SDK."""

from __future__ import annotations

import numpy as np

from protemb_sdk import ALPHABET, ProtembError
from protemb_train.corpus.corpus import Trace

SAME_FOLD = 0.5
"""TM-score above which two chains usually have the same fold (Xu and Zhang 2010)."""


def tm_align(one: Trace, other: Trace) -> tuple[float, float]:
    """Return the TM-scores of two chains, normalised by the length of the first and of the second.

    Raises
    ------
    ProtembError
        If tmtools is not installed, or a chain has fewer than five residues.
    """
    try:
        import tmtools
    except ModuleNotFoundError as error:
        if error.name != "tmtools":
            raise
        raise ProtembError("TM-scores require tmtools (GPL): pip install 'protemb-sdk[align]'") from None
    for trace in (one, other):
        if len(trace.residue_type) < 5:
            raise ProtembError(f"{trace.id}: has fewer than 5 residues, too few for TM-align; remove it")
    coords = [trace.ca_coords.astype(np.float64) for trace in (one, other)]
    letters = ["".join(ALPHABET[kind] for kind in trace.residue_type) for trace in (one, other)]
    found = tmtools.tm_align(*coords, *letters)
    return float(found.tm_norm_chain1), float(found.tm_norm_chain2)
