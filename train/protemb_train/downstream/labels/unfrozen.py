"""Joint training of a predictor of a user's labels and its encoder.

The head is trained alone first (`training`), then all weights: the gradients of a random head would damage
the encoder (Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from protemb_train.downstream.labels.head import READOUTS, LabelModel, TrainedLabels
from protemb_train.downstream.labels.table import LabelError, Labelled, LabelTable
from protemb_train.downstream.labels.training import label_loss, sides_of
from protemb_train.network.means import mean_readouts
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.vectors import residue_vectors

EPOCHS, BATCH, RATE, DECAY = 5, 4, 1e-4, 1e-2  # 1/10 of the rate of the head, 1/40 of that of the encoder
LONGEST = 300
"""Residues; longer chains, which cost as much as all others together, are not used for training."""


def train_on(
    trained: TrainedLabels,
    network: ScoreNetwork,
    sigma: float,
    table: LabelTable,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[LabelModel, ScoreNetwork, list[float]]:
    """Train a predictor together with its encoder, and keep the weights with the lowest validation loss.

    These may be the initial ones. The test families are not used.

    Parameters
    ----------
    trained : TrainedLabels
        Result of `train_labels` for the table on this encoder.
    network : ScoreNetwork
        The encoder; it is not modified, nor is `trained`.
    sigma : float
        Its noise level, angstrom.
    table : LabelTable
        Chains and labels.
    progress : callable, optional
        Called with the number of finished batches and their total.

    Returns
    -------
    model : LabelModel
        Predictor in eval mode.
    network : ScoreNetwork
        Encoder in eval mode.
    losses : list of float
        Validation losses: initially, and after each epoch.

    Raises
    ------
    LabelError
        If no training chain or no validation chain is short enough.
    """
    training, validation = (
        [table.chains[n] for n in side if len(table.chains[n].chain) <= LONGEST]
        for side in sides_of(table)[:2]
    )
    if not training or not validation:
        raise LabelError(f"no chain of up to {LONGEST} residues to train the encoder on; leave it frozen")
    model, network = copy.deepcopy(trained.model), copy.deepcopy(network).eval()
    both = [*model.networks.parameters(), *network.parameters()]
    optimizer = torch.optim.AdamW(both, RATE, weight_decay=DECAY)
    batches = -(-len(training) // BATCH)
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    losses = [_validation_loss(model, network, sigma, validation)]
    best = copy.deepcopy((model.state_dict(), network.state_dict()))
    for epoch in range(EPOCHS):
        model.train()  # the encoder stays in eval mode: its batch statistics were folded into the graph
        for count, some in enumerate(np.array_split(rng.permutation(len(training)), batches), start=1):
            optimizer.zero_grad()
            for n in some:  # one at a time: maps of several chains would need too much memory
                loss = _loss(model, network, sigma, training[n]) / len(some)
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if progress is not None:
                progress(epoch * batches + count, EPOCHS * batches)
        losses.append(_validation_loss(model, network, sigma, validation))
        if losses[-1] < min(losses[:-1]):
            best = copy.deepcopy((model.state_dict(), network.state_dict()))
    model.load_state_dict(best[0])
    network.load_state_dict(best[1])
    return model.eval(), network, losses


def _loss(model: LabelModel, network: ScoreNetwork, sigma: float, labelled: Labelled) -> Tensor:
    """Return the mean loss of the networks, each evaluated separately as in their training."""
    chain = labelled.chain
    known = torch.from_numpy(np.flatnonzero(np.isfinite(labelled.label)))
    coords_BL3 = torch.from_numpy(chain.centred_coords.astype(np.float32))[None]
    type_L, index_L = (torch.from_numpy(array) for array in (chain.residue_type, chain.residue_index))
    features_LKC = _features(network, coords_BL3, type_L[None], index_L[None], torch.tensor([sigma]))
    seen = model.inputs(features_LKC, type_L)[known]
    values = torch.from_numpy(labelled.label)[known]
    target = values.long() if model.classes else ((values - model.shift) / model.scale).float()
    losses = [label_loss(each(seen), target, model.classes) for each in model.networks]
    return torch.stack(losses).mean()


def _features(
    network: ScoreNetwork, coords_BL3: Tensor, type_BL: Tensor, index_BL: Tensor, sigma_B: Tensor
) -> Tensor:
    """Return the vectors of residues of one chain as a predictor uses them, shape (L, K, C)."""
    if network.single is None:
        readouts = mean_readouts(network.embed(coords_BL3, type_BL, index_BL, sigma_B), coords_BL3)
        return torch.stack([readouts[name][0].T for name in READOUTS], dim=1)
    pair_BCLL, states = network.embed_all(coords_BL3, type_BL, index_BL, sigma_B)
    profile_BLT = network.single.log_profile(states.structure)
    uninformed_BL1 = torch.full_like(profile_BLT[:, :, :1], -math.log(profile_BLT.shape[2]))
    own_BL1 = torch.cat([profile_BLT, uninformed_BL1], dim=2).gather(2, type_BL[:, :, None])
    residue_BLE = residue_vectors(network, pair_BCLL, states, coords_BL3, index_BL)
    return torch.cat([residue_BLE, profile_BLT, own_BL1], dim=2)[0, :, None]


@torch.no_grad()
def _validation_loss(
    model: LabelModel, network: ScoreNetwork, sigma: float, validation: Sequence[Labelled]
) -> float:
    model.eval()
    # Weighted by the number of labels, as in `training`.
    weights = [np.isfinite(labelled.label).sum() for labelled in validation]
    losses = [float(_loss(model, network, sigma, labelled)) for labelled in validation]
    return float(np.average(losses, weights=weights))
