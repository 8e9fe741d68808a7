"""Pieces of cut chains as labelled chains, on which the head of the sites task is pretrained.

Only chains of the pre-training corpus are cut, which contains no relative of a test chain.
"""

from __future__ import annotations

import numpy as np

from protemb_sdk import ALPHABET
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.corpus.cuts import DEFAULT, TOUCHING, Cut, CutRule, cut_chains, find_cuts
from protemb_train.downstream.sites.data import DSSP_STATES, PROFILE, SiteChain

__all__ = ["TOUCHING", "CutRule", "cut_chain", "cut_corpus"]


def cut_chain(trace: Trace, rule: CutRule = DEFAULT) -> list[SiteChain]:
    """Return the pieces of a chain that separate most easily from the rest, with labelled residues.

    Parameters
    ----------
    trace : Trace
        A chain of the corpus, L residues.
    rule : CutRule
        Criteria of the pieces.

    Returns
    -------
    list of SiteChain
        Pieces found by `find_cuts`, without PSSM and DSSP.
    """
    return [_piece(trace, cut) for cut in find_cuts(trace, rule)]


def _piece(trace: Trace, cut: Cut) -> SiteChain:
    length = cut.behind - cut.first
    return SiteChain(
        id=f"{trace.id}:{cut.first}-{cut.behind}",
        split="cut",
        sequence="".join(ALPHABET[t] for t in trace.residue_type[cut.first : cut.behind]),
        label=cut.touching,
        pssm=np.zeros((length, PROFILE), dtype=np.float32),
        structure=np.zeros((length, DSSP_STATES), dtype=np.float32),
        ca_coords=trace.ca_coords[cut.first : cut.behind].astype(np.float64),
        cut=length,
    )


def cut_corpus(
    corpus: Corpus, rule: CutRule = DEFAULT, *, per_cluster: int = 1, seed: int = 0
) -> list[SiteChain]:
    """Return pieces of the chains of a corpus; parameters as in `protemb_train.corpus.cuts.cut_chains`."""
    found = cut_chains(corpus, rule, per_cluster=per_cluster, seed=seed)
    return [_piece(trace, cut) for _, trace, cuts in found for cut in cuts]
