"""DeepPPISP (Zeng et al. 2020, doi:10.1093/bioinformatics/btz699), with optional embeddings.

Global branch: three text convolutions over the whole chain, each followed by a maximum over positions. Local
branch: the features of a window of 7 residues. A perceptron combines both.

The chains of a batch are concatenated, with `GAP` zeros after each, so that none is padded to the longest.
Shapes: N chains, M requested residues, R positions, F features of a residue, E extra ones, P of a protein.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protemb_train.downstream.common.messages import TYPES
from protemb_train.downstream.common.neighbour_graph import Graph
from protemb_train.downstream.sites.data import LONGEST

WINDOW = 7
KERNELS = (13, 15, 17)
GAP = max(KERNELS)
"""Zeros after a chain: no convolution includes two chains, and one position has only zeros, as in the 500."""
WIDTH = 228
"""Channels of a text convolution in every row: the published rule derives it from the local width, which
would enlarge the network with the features."""


class SiteBatch(NamedTuple):
    """Some residues of some chains.

    Parameters
    ----------
    types_RT : Tensor, float32, shape (R, 20)
        Residue types as one-hot.
    other_RF : Tensor, float32, shape (R, F)
        PSSM and DSSP.
    extra_RE : Tensor, float32, shape (R, E)
        Residue embeddings, E may be 0.
    protein_NP : Tensor, float32, shape (N, P)
        Protein embeddings, P may be 0.
    start_N, length_N : Tensor, int64, shape (N,)
        First position and number of residues of each chain.
    chain_M, place_M : Tensor, int64, shape (M,)
        Requested residues: index of the chain, and position.
    label_M : Tensor, float32, shape (M,)
        1.0 in an interface.
    coords_R3 : Tensor, float32, shape (R, 3)
        C-alpha coordinates in angstrom, centred per chain; NaN where missing.
    graph : Graph
        Neighbours of each position; empty if not requested.
    """

    types_RT: Tensor
    other_RF: Tensor
    extra_RE: Tensor
    protein_NP: Tensor
    start_N: Tensor
    length_N: Tensor
    chain_M: Tensor
    place_M: Tensor
    label_M: Tensor
    coords_R3: Tensor
    graph: Graph

    def seen(self) -> list[tuple[int, Tensor]]:
        """Return the first position of each chain, and the positions of its residues with coordinates."""
        places = zip(self.start_N.tolist(), self.length_N.tolist(), strict=True)
        return [
            (start, start + torch.isfinite(self.coords_R3[start : start + length, 0]).nonzero()[:, 0])
            for start, length in places
        ]


class PublishedOneHot(nn.Module):
    """Linear(10000, 10000) and ReLU on a chain's flattened one-hot types, as published: 100 M weights.

    Chains must be padded to `LONGEST`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(LONGEST * TYPES, LONGEST * TYPES)

    def forward(self, types_RT: Tensor) -> Tensor:
        chains = types_RT.reshape(-1, LONGEST + GAP, TYPES)[:, :LONGEST]
        mixed = F.relu(self.linear(chains.flatten(1))).reshape(-1, LONGEST, TYPES)
        return F.pad(mixed, (0, 0, 0, GAP)).flatten(0, 1)


class DeepPPISP(nn.Module):
    """Logit of each requested residue to be in an interface.

    Parameters
    ----------
    other : int
        Features of a residue besides its type (PSSM, DSSP): 29.
    extra : int
        Width of the residue embeddings, 0 for none.
    protein : int
        Width of the protein embedding, 0 for none.
    one_hot : {"residue", "chain"}
        Layer applied to the residue types: one per residue, or the published one on the chain.
    """

    def __init__(
        self, other: int, extra: int, protein: int, one_hot: Literal["residue", "chain"] = "residue"
    ) -> None:
        super().__init__()
        self.types: nn.Module = (
            PublishedOneHot()
            if one_hot == "chain"
            # Without bias, so that positions outside chains stay zero.
            else nn.Sequential(nn.Linear(TYPES, TYPES, bias=False), nn.ReLU())
        )
        features = TYPES + other
        self.text = nn.ModuleList(nn.Conv1d(features, WIDTH, k, padding=k // 2) for k in KERNELS)
        # One layer in two parts: the part of the chain is calculated once for all its residues.
        self.from_chain = nn.Linear(len(KERNELS) * WIDTH + protein, 1024, bias=False)
        self.from_window = nn.Linear(WINDOW * (features + extra), 1024)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 1))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                nn.init.xavier_normal_(module.weight)

    def forward(self, batch: SiteBatch) -> Tensor:
        """Return logits, shape (M,)."""
        features_RF = torch.cat([self.types(batch.types_RT), batch.other_RF], dim=1)
        text_NG = self._largest(features_RF, batch)
        chain_N = self.from_chain(torch.cat([text_NG, batch.protein_NP], dim=1))
        window_MF = clipped(torch.cat([features_RF, batch.extra_RE], dim=1), batch.place_M)
        logit: Tensor = self.head(chain_N[batch.chain_M] + self.from_window(window_MF)).squeeze(1)
        return logit

    def _largest(self, features_RF: Tensor, batch: SiteBatch) -> Tensor:
        """Return the maximum over a chain of each channel of each text convolution, (N, 3 * WIDTH)."""
        row_FR = features_RF.T[None]
        found_GR = torch.cat([F.relu(text(row_FR))[0] for text in self.text])
        # Includes positions after the end, where the window is empty: the published network pads to 500.
        spans = [
            slice(start, start + length + GAP // 2 + 1)
            for start, length in zip(batch.start_N.tolist(), batch.length_N.tolist(), strict=True)
        ]
        return torch.stack([found_GR[:, span].amax(dim=1) for span in spans])


def clipped(residue_RF: Tensor, place_M: Tensor) -> Tensor:
    """Return the window around residues, with zeros outside their chains: shape (M, W * F).

    Like `protemb_sdk.clip_windows`, with a gradient and only for the requested residues; a test compares the
    two.
    """
    half = WINDOW // 2
    padded = F.pad(residue_RF, (0, 0, half, half))
    return torch.cat([padded[place_M + w] for w in range(WINDOW)], dim=1)
