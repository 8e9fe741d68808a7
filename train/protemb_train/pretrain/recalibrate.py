"""Recalculation of the batch-norm statistics of a `paper` network on whole chains instead of crops."""

from __future__ import annotations

import torch
from torch import nn

from protemb_sdk import ProtembError
from protemb_train.network.network import ScoreNetwork
from protemb_train.pretrain.crops import WholeChains


@torch.no_grad()
def recalibrate(network: ScoreNetwork, chains: WholeChains) -> ScoreNetwork:
    """Replace every running mean and variance by its average over whole noisy chains; return the network.

    Parameters
    ----------
    network : ScoreNetwork
        Network; it is modified in place and left in eval mode.
    chains : WholeChains
        Training chains; a batch is one chain at several noise levels.

    Raises
    ------
    ProtembError
        If the network has no batch normalisation, or there is no chain.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise ProtembError(f"a {network.config.family} network has no batch normalisation to recalibrate")
    if not len(chains):
        raise ProtembError("no training chain of a suitable length to recalibrate on")
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all batches
    network.train()
    for position in range(len(chains)):
        batch = chains[position]
        network.embed(batch["noisy"], batch["types"], batch["index"], batch["sigma"])
    return network.eval()
