"""Evaluation on whole chains: eq. 5 for each noise level, relative to a predictor that returns zero."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from protemb_train.corpus.corpus import Corpus, CorpusError, Trace
from protemb_train.corpus.cuts import CutRule, cut_chains
from protemb_train.network.features import UNKNOWN
from protemb_train.network.loss import score_matching_loss
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.noise import denoising_score, perturb


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """Mean loss per noise level, relative to predicting zero.

    Parameters
    ----------
    sigma : ndarray, float32, shape (K,)
        Noise levels in angstrom, largest first.
    share : ndarray, float64, shape (K,)
        Eq. 5 relative to predicting zero.
    floor : float
        Part that no gradient of eq. 4 can explain: 6 of the 3L degrees of freedom, mean over chains.
    chains : int
        Number of chains.
    """

    sigma: NDArray[np.float32]
    share: NDArray[np.float64]
    floor: float
    chains: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, rounded."""
        levels = [
            {"sigma": round(float(s), 4), "share": round(float(v), 4)}
            for s, v in zip(self.sigma, self.share, strict=True)
        ]
        mean = round(float(self.share.mean()), 4)
        return {"mean_share": mean, "floor": round(self.floor, 4), "chains": self.chains, "levels": levels}

    def as_markdown(self) -> str:
        """Return the table of a results folder, with the rounded values."""
        values = self.as_dict()
        mean, floor = values["mean_share"], values["floor"]
        head = f"{self.chains} whole held-out chains; mean {mean:.3f}; floor {floor:.3f}."
        rows = [f"| {level['sigma']:.3g} | {level['share']:.3f} |" for level in values["levels"]]
        table = "\n".join(
            ["| noise level, angstrom | loss relative to zero prediction |", "|---|---|", *rows]
        )
        return f"{head}\n\n{table}\n"


@torch.no_grad()
def judge(network: ScoreNetwork, traces: Iterable[Trace], seed: int = 0, every: int = 1) -> Judgement:
    """Return the loss per noise level on full-length chains, with the same noise for every network.

    Parameters
    ----------
    network : ScoreNetwork
        Network on the CPU; it is put into eval mode.
    traces : iterable of Trace
        Whole chains.
    seed : int, default 0
        Seed of the noise.
    every : int, default 1
        Evaluate each `every`-th noise level, starting from the largest.

    Raises
    ------
    CorpusError
        If there is no chain.
    """
    network.eval()
    levels = network.levels_K[::every]
    total, zero, floors = torch.zeros(len(levels)), torch.zeros(len(levels)), []
    count = 0
    for position, trace in enumerate(traces):
        coords = torch.from_numpy(np.array(trace.ca_coords))[None]
        types, index = torch.from_numpy(trace.residue_type)[None], torch.from_numpy(trace.residue_index)[None]
        generator = torch.Generator().manual_seed(seed * 1_000_003 + position)
        for k, level in enumerate(levels):
            sigma = level[None]
            noisy = perturb(coords, sigma, generator)
            target = denoising_score(coords, noisy, sigma)
            loss = score_matching_loss(network(noisy, types, index, sigma), target, sigma)
            zeros = score_matching_loss(torch.zeros_like(target), target, sigma)
            # Per residue, so that long chains do not dominate.
            total[k] += loss.item() / len(trace.residue_type)
            zero[k] += zeros.item() / len(trace.residue_type)
        floors.append(6.0 / (3.0 * len(trace.residue_type)))
        count += 1
    if not count:
        raise CorpusError("no chain to evaluate on: pass a corpus with chains, or allow longer ones")
    return Judgement(levels.numpy(), (total / zero).double().numpy(), float(np.mean(floors)), count)


EMBEDDING_SIGMA = 0.3
"""Noise level in angstrom at which states are evaluated, on coordinates without noise."""
STATE_CHAINS = 60
"""Numbers of validation chains, and of pieces of them, on which states are evaluated."""


@torch.no_grad()
def judge_states(
    network: ScoreNetwork, site_head: nn.Module | None, corpus: Corpus, *, pair_map: bool = True
) -> dict[str, float]:
    """Return scores of the residue states on the tasks that they are trained for.

    Parameters
    ----------
    network : ScoreNetwork
        Network with a single representation.
    site_head : nn.Module, optional
        Returns the logit of a contact site from a state.
    corpus : Corpus
        Chains for the evaluation, at most 200 residues each.
    pair_map : bool, default True
        Whether the map is used; without it, the states are those of the messages alone.

    Returns
    -------
    dict of float
        `type_accuracy` and `type_nats`: accuracy of the most probable residue type of the profile, and its
        cross entropy, over all residues of whole chains; `site_ap`: average precision of contact sites over
        all residues of pieces, if there is a head.
    """
    assert network.single is not None
    right, nats, count = 0.0, 0.0, 0
    for position in corpus.one_per_cluster(STATE_CHAINS, (50, 200)):
        trace = corpus[position]
        coords, types, index = _inputs(trace, slice(None))
        if pair_map:  # half of the blocks suffice
            state = network.structure_state(coords, index, torch.tensor([EMBEDDING_SIGMA]))
        else:
            state = network.states_without_map(coords, types, index).structure
        profile, true = network.single.log_profile(state)[0], torch.from_numpy(np.array(trace.residue_type))
        known = true != UNKNOWN
        right += float((profile.argmax(dim=1) == true)[known].sum())
        nats += float(-profile[known].gather(1, true[known, None]).sum())
        count += int(known.sum())
    found = {"type_accuracy": right / max(1, count), "type_nats": nats / max(1, count)}
    if site_head is not None:
        found["site_ap"] = _site_precision(network, site_head, corpus, pair_map)
    return found


def _inputs(trace: Trace, part: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Return coordinates, types and indices of a part of a chain, as a batch of one."""
    arrays = (trace.ca_coords, trace.residue_type, trace.residue_index)
    coords, types, index = (torch.from_numpy(np.array(a[part]))[None] for a in arrays)
    return coords, types, index


def _site_precision(network: ScoreNetwork, site_head: nn.Module, corpus: Corpus, pair_map: bool) -> float:
    logits, labels = [], []
    for _, trace, cuts in islice(cut_chains(corpus, CutRule(longest=200, pieces=1)), STATE_CHAINS):
        part = slice(cuts[0].first, cuts[0].behind)
        inputs = _inputs(trace, part)
        if pair_map:
            states = network.embed_all(*inputs, torch.tensor([EMBEDDING_SIGMA]))[1]
        else:
            states = network.states_without_map(*inputs)
        logits.append(site_head(states.state)[0, :, 0].numpy())
        labels.append(cuts[0].touching)
    if not labels or not np.concatenate(labels).any():
        return float("nan")
    return float(average_precision_score(np.concatenate(labels), np.concatenate(logits)))
