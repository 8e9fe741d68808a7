"""Our head: message passing between spatial neighbours, with their geometry, and means over the surroundings.

Shapes: L residues, K neighbours, H hidden channels; those of a batch as in `SiteBatch`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from protemb_train.downstream.common.messages import (
    BURIAL_SPREAD,
    DROPOUT,
    HIDDEN,
    LARGEST,
    TYPES,
)
from protemb_train.downstream.common.neighbour_graph import EDGE, Graph, distances
from protemb_train.downstream.sites.deepppisp import SiteBatch
from protemb_train.network.features import decay
from protemb_train.network.messages import Messages
from protemb_train.network.neighbours import BURIAL

LAYERS = 3
SURROUNDINGS = (14.0, 300.0)
"""Scales in angstrom of means over the surroundings of a residue: its patch of the surface, and the chain."""


def surroundings(coords_L3: Tensor) -> Tensor:
    """Return weights of the means over surroundings, shape (S, L, L), for each of `SURROUNDINGS`.

    The weights of a residue sum to 1; those from and to residues without coordinates (NaN) are 0.

    Parameters
    ----------
    coords_L3 : Tensor, float32, shape (L, 3)
        C-alpha coordinates in angstrom, near the origin.
    """
    squared_LL = distances(coords_L3).square()
    seen_LL = torch.isfinite(squared_LL)
    squared_LL = torch.where(seen_LL, squared_LL, 0.0)
    weights = [decay(squared_LL / -(scale**2)) * seen_LL for scale in SURROUNDINGS]
    return torch.stack([w / w.sum(dim=1, keepdim=True).clamp(min=1.0) for w in weights])


def means_around(values_LH: Tensor, around: Sequence[Tensor]) -> Tensor:
    """Return means over the surroundings of each residue, shape (L, S H).

    Parameters
    ----------
    values_LH : Tensor, float32, shape (L, H)
        Values of the residues of all chains.
    around : sequence of Tensor
        `surroundings` of each chain, in the order of the residues.
    """
    chains = torch.split(values_LH, [weight_SLL.shape[1] for weight_SLL in around])
    return torch.cat(
        [
            torch.cat([weight_LL @ chain_LH for weight_LL in weight_SLL.unbind()], dim=1)
            for weight_SLL, chain_LH in zip(around, chains, strict=True)
        ]
    )


class Surroundings(nn.Module):
    """Linear map of the means over surroundings.

    Parameters
    ----------
    values, hidden : int
        Widths of the values and of the result.
    """

    def __init__(self, values: int, hidden: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(DROPOUT)
        self.mix = nn.Linear(len(SURROUNDINGS) * values, hidden, bias=False)

    def forward(self, values_LH: Tensor, around: Sequence[Tensor]) -> Tensor:
        """Return what is added to the states; parameters as in `means_around`."""
        mixed: Tensor = self.mix(self.dropout(means_around(values_LH, around)))
        return mixed


class GraphHead(nn.Module):
    """Logit of each requested residue.

    Parameters
    ----------
    other, extra, protein : int
        Widths as in `DeepPPISP`; protein embeddings are not used.
    """

    def __init__(self, other: int, extra: int, protein: int) -> None:
        super().__init__()
        width = TYPES + extra + len(BURIAL)
        self.input, self.around_input = nn.Linear(width, HIDDEN), Surroundings(width, HIDDEN)
        # Separate, and initially zero: they can be added to a head that was trained without PSSM and DSSP.
        self.features = nn.Linear(other, HIDDEN, bias=False) if other else None
        if self.features is not None:
            nn.init.zeros_(self.features.weight)
        self.dropout = nn.Dropout(DROPOUT)
        self.layers = nn.ModuleList(Messages(HIDDEN, EDGE, DROPOUT) for _ in range(LAYERS))
        self.norms = nn.ModuleList(nn.LayerNorm(HIDDEN) for _ in range(LAYERS))
        self.around = nn.ModuleList(Surroundings(HIDDEN, HIDDEN) for _ in range(LAYERS))
        self.output = nn.Sequential(nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, 1))

    def forward(self, batch: SiteBatch) -> Tensor:
        """Return logits, shape (M,)."""
        past = [*batch.start_N.tolist()[1:], len(batch.coords_R3)]
        places = zip(batch.start_N.tolist(), past, strict=True)
        around = [surroundings(batch.coords_R3[start:end]) for start, end in places]
        inputs = batch.types_RT, batch.other_RF, batch.extra_RE, batch.graph, around
        return self.logits(*inputs)[batch.place_M]

    def logits(
        self,
        types_LT: Tensor,
        other_LF: Tensor,
        extra_LE: Tensor,
        graph: Graph,
        around: Sequence[Tensor],
    ) -> Tensor:
        """Return the logit of every residue, shape (L,); `around` as in `means_around`."""
        # Types and burial, on the scale of the many standardised embeddings.
        types = (TYPES * types_LT - 1) / math.sqrt(TYPES - 1)
        burial = (graph.burial_LB - 1) / BURIAL_SPREAD
        seen = torch.cat([types, extra_LE.clamp(-LARGEST, LARGEST), burial], dim=1)
        y_LH = self.input(self.dropout(seen)) + self.around_input(seen, around)
        if self.features is not None:
            y_LH = y_LH + self.features(self.dropout(other_LF.clamp(-LARGEST, LARGEST)))
        graph = graph._replace(edge_LKE=graph.edge_LKE.float(), present_LK=graph.present_LK.float())
        for layer, norm, mean in zip(self.layers, self.norms, self.around, strict=True):
            y_LH = layer(y_LH, graph)
            y_LH = y_LH + mean(norm(y_LH), around)
        logit: Tensor = self.output(y_LH).squeeze(1)
        return logit
