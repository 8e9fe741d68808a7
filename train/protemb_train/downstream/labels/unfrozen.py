"""A predictor of a user's labels and the encoder below it, trained on together.

First the head alone (`training`), then all weights: from a head at random, the first gradients would spoil
what the encoder knows (Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from protemb_train.downstream.labels.head import READOUTS, LabelModel, TrainedLabels
from protemb_train.downstream.labels.table import LabelError, Labelled, LabelTable
from protemb_train.downstream.labels.training import label_loss, sides_of
from protemb_train.network.means import mean_readouts
from protemb_train.network.network import ScoreNetwork

EPOCHS, BATCH, RATE, DECAY = 5, 4, 1e-4, 1e-2  # a tenth of the head's rate, a fortieth of the encoder's
LONGEST = 300
"""Residues: chains beyond it cost as much as all others together, and are not learnt from here."""


def train_on(
    trained: TrainedLabels,
    network: ScoreNetwork,
    sigma: float,
    table: LabelTable,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[LabelModel, ScoreNetwork, list[float]]:
    """Train a predictor on, and its encoder with it, and keep what does best on the chains that watch.

    That may be where they began: the families that judge are not looked at.

    Parameters
    ----------
    trained : TrainedLabels
        What `train_labels` made of the table on this encoder.
    network : ScoreNetwork
        That encoder; stays as it is, as does `trained`.
    sigma : float
        Its noise level, angstrom.
    table : LabelTable
        Chains and labels.
    progress : callable, optional
        Is called with how many batches are done, and how many there are.

    Returns
    -------
    model : LabelModel
        In eval mode.
    network : ScoreNetwork
        In eval mode.
    losses : list of float
        On the chains that watch: before, and after each epoch.

    Raises
    ------
    LabelError
        If no chain that teaches, or none that watches, is short enough.
    """
    taught, watching = (
        [table.chains[n] for n in side if len(table.chains[n].chain) <= LONGEST]
        for side in sides_of(table)[:2]
    )
    if not taught or not watching:
        raise LabelError(f"no chain of up to {LONGEST} residues to train the encoder on; leave it frozen")
    model, network = copy.deepcopy(trained.model), copy.deepcopy(network).eval()
    both = [*model.networks.parameters(), *network.parameters()]
    optimizer = torch.optim.AdamW(both, RATE, weight_decay=DECAY)
    batches = -(-len(taught) // BATCH)
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    losses = [_watched(model, network, sigma, watching)]
    best = copy.deepcopy((model.state_dict(), network.state_dict()))
    for epoch in range(EPOCHS):
        model.train()  # the encoder stays in eval mode: its batch statistics are those it was folded with
        for count, some in enumerate(np.array_split(rng.permutation(len(taught)), batches), start=1):
            optimizer.zero_grad()
            for n in some:  # one after the other: maps of several chains would not fit
                loss = _loss(model, network, sigma, taught[n]) / len(some)
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if progress is not None:
                progress(epoch * batches + count, EPOCHS * batches)
        losses.append(_watched(model, network, sigma, watching))
        if losses[-1] < min(losses[:-1]):
            best = copy.deepcopy((model.state_dict(), network.state_dict()))
    model.load_state_dict(best[0])
    network.load_state_dict(best[1])
    return model.eval(), network, losses


def _loss(model: LabelModel, network: ScoreNetwork, sigma: float, labelled: Labelled) -> Tensor:
    """Return the mean loss of the averaged networks, each alone as it learnt before."""
    chain = labelled.chain
    known = torch.from_numpy(np.flatnonzero(np.isfinite(labelled.label)))
    coords_BL3 = torch.from_numpy(chain.centred_coords.astype(np.float32))[None]
    type_L, index_L = (torch.from_numpy(array) for array in (chain.residue_type, chain.residue_index))
    pair_BCLL = network.embed(coords_BL3, type_L[None], index_L[None], torch.tensor([sigma]))
    readouts = mean_readouts(pair_BCLL, coords_BL3)
    features_LKC = torch.stack([readouts[name][0].T for name in READOUTS], dim=1)
    seen = model.inputs(features_LKC, type_L)[known]
    values = torch.from_numpy(labelled.label)[known]
    target = values.long() if model.classes else ((values - model.shift) / model.scale).float()
    losses = [label_loss(each(seen), target, model.classes) for each in model.networks]
    return torch.stack(losses).mean()


@torch.no_grad()
def _watched(model: LabelModel, network: ScoreNetwork, sigma: float, watching: Sequence[Labelled]) -> float:
    model.eval()
    # By label, as `training` weighs them.
    weights = [np.isfinite(labelled.label).sum() for labelled in watching]
    losses = [float(_loss(model, network, sigma, labelled)) for labelled in watching]
    return float(np.average(losses, weights=weights))
