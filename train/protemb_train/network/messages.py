"""Message passing between spatial neighbours: the layer of the single representation and of both tasks.

Shapes: L residues, K neighbours, E features of an edge, H hidden channels.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Edges(Protocol):
    """Neighbours of each residue, such as `protemb_train.network.neighbours.Neighbours`."""

    @property
    def edge_LKE(self) -> Tensor:
        """Features of each edge."""

    @property
    def neighbour_LK(self) -> Tensor:
        """Index of each neighbour, int64."""

    @property
    def present_LK(self) -> Tensor:
        """Weight of each neighbour; 0 where there is none."""


class Messages(nn.Module):
    """One layer: the mean message of the neighbours, and a perceptron of it and the residue itself.

    Parameters
    ----------
    hidden, edge : int
        H and E.
    dropout : float
        Share of the channels of an update that are dropped in training.
    """

    def __init__(self, hidden: int, edge: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.edge = nn.Linear(edge, hidden)
        self.own = nn.Linear(hidden, hidden, bias=False)
        self.other = nn.Linear(hidden, hidden, bias=False)
        self.mix = nn.Sequential(
            nn.Linear(2 * hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, hidden), nn.Dropout(dropout)
        )

    def forward(self, y_LH: Tensor, graph: Edges) -> Tensor:
        """Return the states after the layer, shape (L, H)."""
        v_LH = self.norm(y_LH)
        present_LK = graph.present_LK
        # The cost is dominated by passes over (L, K, H): the bias is added per residue, and a product with
        # a term to add is one pass.
        ends_LKH = self.other(v_LH)[graph.neighbour_LK] + (self.own(v_LH) + self.edge.bias)[:, None]
        edges = graph.edge_LKE.flatten(0, 1)
        message = F.relu(torch.addmm(ends_LKH.flatten(0, 1), edges, self.edge.weight.T)).view_as(ends_LKH)
        mean = (present_LK[:, None] @ message)[:, 0] / present_LK.sum(dim=1, keepdim=True).clamp(min=1.0)
        out: Tensor = y_LH + self.mix(torch.cat([v_LH, mean], dim=1))
        return out
