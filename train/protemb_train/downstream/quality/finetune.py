"""Fine-tuning of GraphQA together with the encoder of its embeddings.

The head is trained alone first, then both: the gradients of a random head would damage the encoder
(Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from protemb_train.downstream.quality.decoys import Decoy
from protemb_train.downstream.quality.graphs import graph_of
from protemb_train.downstream.quality.training import Examples, Recipe
from protemb_train.downstream.quality.vectors import Scales
from protemb_train.network.network import ScoreNetwork

UNFROZEN = Recipe(epochs=1, batch=4, learning_rate=1e-4)
LONGEST_TRAINED = 200
"""Residues; longer chains, which cost more than all others together, are only predicted."""
FEW = 4  # one of this number of validation models is evaluated: each needs a pass through the encoder


class EndToEnd(nn.Module):
    """GraphQA and its encoder.

    Parameters
    ----------
    encoder : ScoreNetwork
        Encoder; it is copied.
    sigma : float
        Noise level of its embedding, angstrom.
    head : nn.Module
        Network trained on scaled embeddings of pairs and of the mean readout.
    scales : Scales
        Scales of these embeddings.
    """

    def __init__(self, encoder: ScoreNetwork, sigma: float, head: nn.Module, scales: Scales) -> None:
        super().__init__()
        self.encoder, self.head, self.sigma = copy.deepcopy(encoder), head, sigma
        self.scales = scales

    def forward(self, graphs: Batch) -> tuple[Tensor, Tensor]:
        """Return scores of residues (L, 2) and of models (B, 5)."""
        self.encoder.autocast_blocks = self.training
        nodes, edges = [], []
        of_edge = graphs.batch[graphs.edge_index[1]]
        for n, start in enumerate(graphs.ptr[:-1].tolist()):
            here = graphs.batch == n
            sender, receiver = graphs.edge_index[:, of_edge == n] - start
            node, edge = self.embed(graphs.pos[here], graphs.types[here], sender, receiver)
            node, edge = self.scales.scaled(node, edge)
            nodes.append(node)
            edges.append(edge)
        full = graphs.clone()
        full.node_embedding, full.edge_embedding = torch.cat(nodes), torch.cat(edges)
        scores: tuple[Tensor, Tensor] = self.head(full)
        return scores

    def embed(
        self, coords_L3: Tensor, types_L: Tensor, sender_E: Tensor, receiver_E: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return embeddings of residues (L, C), and of the pairs at the edges (E, C)."""
        sigma = coords_L3.new_full((1,), self.sigma)
        index_L = torch.arange(len(types_L))
        pair_CLL = self.encoder.embed(coords_L3[None], types_L[None], index_L[None], sigma)[0]
        return pair_CLL.mean(dim=2).T, pair_CLL[:, receiver_E, sender_E].T


def bare(decoys: Sequence[Decoy]) -> Examples:
    """Return models without embeddings, which the network computes."""
    graphs = [graph_of(d) for d in decoys]
    return Examples(decoys, lambda n: graphs[n])
