"""Our head: a perceptron on a window of residue embeddings, small enough for a few hundred chains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from protemb_train.downstream.sites.deepppisp import TYPES, WINDOW, SiteBatch, clipped

HIDDEN = 64
DROPOUT = 0.3  # of inputs and of the hidden layer: two hundred chains hold few independent examples


class SiteHead(nn.Module):
    """Logit of each residue asked for, from the residue types, features and embeddings of its window.

    Networks on the graph of contacts, with and without pair embeddings at its edges, were no better in one
    run each (train/results/README.md).

    Parameters
    ----------
    other, extra, protein : int
        Widths as in `DeepPPISP`; protein embeddings are not used.
    """

    def __init__(self, other: int, extra: int, protein: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(DROPOUT),
            nn.Linear(WINDOW * (TYPES + other + extra), HIDDEN),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, 1),
        )

    def forward(self, batch: SiteBatch) -> Tensor:
        """Return logits, shape (M,)."""
        row_RF = torch.cat([batch.types_RT, batch.other_RF, batch.extra_RE], dim=1)
        logit: Tensor = self.layers(clipped(row_RF, batch.place_M)).squeeze(1)
        return logit
