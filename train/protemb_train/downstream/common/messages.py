"""Messages between residues that are near in space: the layer that the heads of both tasks are built from.

Shapes: L residues, K neighbours, H hidden channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protemb_train.downstream.common.contacts import EDGE, Graph

TYPES = 20
"""Residue types in one-hot inputs; X is none of them."""
HIDDEN, DROPOUT = 64, 0.2
BURIAL_SPREAD = 0.3
LARGEST = 8.0
"""Standard deviations at which inputs are clipped, so that an odd structure stays near what was learnt."""


class Messages(nn.Module):
    """One layer: the mean message of the neighbours, and a perceptron of it and the residue itself."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.edge = nn.Linear(EDGE, hidden)
        self.own = nn.Linear(hidden, hidden, bias=False)
        self.other = nn.Linear(hidden, hidden, bias=False)
        self.mix = nn.Sequential(
            nn.Linear(2 * hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, hidden), nn.Dropout(dropout)
        )

    def forward(self, y_LH: Tensor, graph: Graph) -> Tensor:
        v_LH = self.norm(y_LH)
        there = graph.there_LK[..., None]
        message = F.relu(
            self.edge(graph.edge_LKE) + self.own(v_LH)[:, None] + self.other(v_LH)[graph.neighbour_LK]
        )
        mean = (message * there).sum(dim=1) / there.sum(dim=1).clamp(min=1.0)
        out: Tensor = y_LH + self.mix(torch.cat([v_LH, mean], dim=1))
        return out
