"""Our head: message passing between spatial neighbours, with their geometry.

Shapes: L residues, K neighbours, H hidden channels; those of a batch as in `SiteBatch`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from protemb_train.downstream.common.messages import (
    BURIAL_SPREAD,
    DROPOUT,
    HIDDEN,
    LARGEST,
    TYPES,
)
from protemb_train.downstream.common.neighbour_graph import EDGE, Graph
from protemb_train.downstream.sites.deepppisp import SiteBatch
from protemb_train.network.messages import Messages
from protemb_train.network.neighbours import BURIAL

LAYERS = 3


class GraphHead(nn.Module):
    """Logit of each requested residue.

    Parameters
    ----------
    other, extra, protein : int
        Widths as in `DeepPPISP`; protein embeddings are not used.
    """

    def __init__(self, other: int, extra: int, protein: int) -> None:
        super().__init__()
        self.input = nn.Linear(TYPES + extra + len(BURIAL), HIDDEN)
        # Separate, and initially zero: they can be added to a head that was trained without PSSM and DSSP.
        self.features = nn.Linear(other, HIDDEN, bias=False) if other else None
        if self.features is not None:
            nn.init.zeros_(self.features.weight)
        self.dropout = nn.Dropout(DROPOUT)
        self.layers = nn.ModuleList(Messages(HIDDEN, EDGE, DROPOUT) for _ in range(LAYERS))
        self.output = nn.Sequential(nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, 1))

    def forward(self, batch: SiteBatch) -> Tensor:
        """Return logits, shape (M,)."""
        return self.logits(batch.types_RT, batch.other_RF, batch.extra_RE, batch.graph)[batch.place_M]

    def logits(self, types_LT: Tensor, other_LF: Tensor, extra_LE: Tensor, graph: Graph) -> Tensor:
        """Return the logit of every residue, shape (L,)."""
        # Types and burial, on the scale of the many standardised embeddings.
        types = (TYPES * types_LT - 1) / math.sqrt(TYPES - 1)
        burial = (graph.burial_LB - 1) / BURIAL_SPREAD
        seen = torch.cat([types, extra_LE.clamp(-LARGEST, LARGEST), burial], dim=1)
        y_LH = self.input(self.dropout(seen))
        if self.features is not None:
            y_LH = y_LH + self.features(self.dropout(other_LF.clamp(-LARGEST, LARGEST)))
        graph = graph._replace(edge_LKE=graph.edge_LKE.float(), present_LK=graph.present_LK.float())
        for layer in self.layers:
            y_LH = layer(y_LH, graph)
        logit: Tensor = self.output(y_LH).squeeze(1)
        return logit
