"""Quality from the compatibility of a sequence with a structure, as in the 3D profile method.

Bowie, Luethy and Eisenberg 1991 (doi:10.1126/science.1853201) evaluate a model by how well its residue
types fit their environments. Here the profile of the embedding has the log probability of each type at each
residue, from structure alone. A small network sees it, averages of it over neighbours, and neighbour counts.

Shapes: L residues, F features, E channels of further readouts, H hidden channels, B models.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.utils import scatter

from protemb_sdk import ALPHABET
from protemb_train.downstream.common.neighbour_graph import distances
from protemb_train.downstream.quality.decoys import GLOBAL, LOCAL, Decoy
from protemb_train.downstream.quality.head import RESIDUES
from protemb_train.downstream.quality.naming import tensors_of
from protemb_train.downstream.quality.perturb import BOND

PROFILE = 21
"""Channels of the readout `profile`: log probabilities of 20 types, and of the residue's own."""
HYDROPHOBIC = tuple(ALPHABET.index(letter) for letter in "ACFILMVW")
RADII = (8.0, 12.0, 18.0)
"""Radii of the averages over neighbours, angstrom."""
WINDOW = 4  # residues on each side, of the average along the chain
COUNTS = ((8.0, 2), (10.0, 0), (14.0, 0), (10.0, 5), (10.0, 23))
"""Neighbour counts: radius in angstrom, and the separation along the chain that is exceeded."""
EDGE = 0.5  # angstrom: a neighbour at a radius counts half, so that features are continuous
STEPS = (2, 3, 4)  # residues: distances along the chain, which depend on secondary structure
FEATURES = 6 + 5 * (len(RADII) + 1) + len(COUNTS) + len(STEPS) + 1
WHOLE = 2  # features of a model
HIDDEN, FURTHER, DROPOUT = 64, 32, 0.1
LARGEST = 5.0  # features are clipped at this number of standard deviations


def compatibility_features(profile_LC: Tensor, types_L: Tensor, coords_L3: Tensor) -> Tensor:
    """Return features of residues, shape (L, F); can be exported to ONNX.

    Parameters
    ----------
    profile_LC : Tensor, float32, shape (L, 21)
        Log probabilities of the 20 types, and of the residue's own.
    types_L : Tensor, int64, shape (L,)
        Positions in `ALPHABET`.
    coords_L3 : Tensor, float32, shape (L, 3)
        C-alpha coordinates in angstrom.
    """
    log_LT, own_L = profile_LC[:, :20], profile_LC[:, 20]
    p_LT = log_LT.exp()
    expected_L = (p_LT * log_LT).sum(dim=1)
    hydrophobic_T = torch.tensor([float(t in HYDROPHOBIC) for t in range(len(ALPHABET))])
    likely_L = p_LT @ hydrophobic_T[:20]
    gain_L, surprise_L = own_L - log_LT.mean(dim=1), own_L - expected_L
    polarity_L = hydrophobic_T[types_L] - likely_L
    averaged = torch.stack([gain_L, surprise_L, -expected_L, polarity_L, likely_L], dim=1)
    d_LL = distances(coords_L3)
    place_L = torch.arange(coords_L3.shape[0])
    apart_LL = (place_L[:, None] - place_L[None, :]).abs()
    along_LL = (apart_LL <= WINDOW).to(torch.float32)
    weights = [*(torch.sigmoid((radius - d_LL) / EDGE) for radius in RADII), along_LL]
    means = [(w @ averaged) / w.sum(dim=1, keepdim=True) for w in weights]
    counts = [
        (torch.sigmoid((radius - d_LL) / EDGE) * (apart_LL > beyond)).sum(dim=1, keepdim=True)
        for radius, beyond in COUNTS
    ]
    steps = [_step(coords_L3, place_L, step, BOND * step**0.5) for step in STEPS]
    bond = (_step(coords_L3, place_L, 1, BOND) - BOND).abs().clamp(max=1.0)
    single = torch.stack([gain_L, surprise_L, -expected_L, log_LT.amax(dim=1), polarity_L, likely_L], dim=1)
    return torch.cat([single, *means, *counts, *steps, bond], dim=1)


def _step(coords_L3: Tensor, place_L: Tensor, step: int, usual: float) -> Tensor:
    """Return distances to the residue some steps along the chain, shape (L, 1); the usual one at the end."""
    after_L = (place_L + step).clamp(max=coords_L3.shape[0] - 1)
    d_L = (coords_L3[after_L] - coords_L3).square().sum(dim=1).sqrt()
    return torch.where(after_L - place_L == step, d_L, usual)[:, None]


def whole_features(coords_L3: Tensor) -> Tensor:
    """Return features of a model, shape (1, 2): its length and its radius of gyration relative to it."""
    length = torch.ones_like(coords_L3[:, 0]).sum()
    radius = (coords_L3 - coords_L3.mean(dim=0)).square().sum(dim=1).mean().sqrt()
    # Radii of folded chains grow with this power of the length (Skolnick et al. 1997, about 2.2 L^.38).
    return torch.stack([(length / RESIDUES).log(), (radius / (2.2 * length**0.38)).clamp(min=0.1).log()])[
        None
    ]


def compatibility_data(decoy: Decoy, node_LC: Tensor) -> Data:
    """Return the features of a model with its labels.

    Parameters
    ----------
    decoy : Decoy
    node_LC : Tensor, float32, shape (L, 21 or more)
        Its readouts, the profile first.
    """
    types, coords = tensors_of(decoy)
    return Data(
        types=types,
        features=compatibility_features(node_LC[:, :PROFILE], types, coords),
        whole=whole_features(coords),
        quality=torch.from_numpy(decoy.quality)[None],
        residue_quality=torch.from_numpy(np.asarray(decoy.residue_quality)),
        num_nodes=len(decoy),
    )


class CompatibilityHead(nn.Module):
    """Scores of every residue and of the model, each in 0 to 1.

    Scores of the model depend on compatibility and counts alone; those of residues on further readouts, too.

    Parameters
    ----------
    width : int
        Channels of all readouts, the profile first.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.further = width - PROFILE
        self.scale = nn.BatchNorm1d(FEATURES, affine=False)
        self.scale_whole = nn.BatchNorm1d(WHOLE, affine=False)
        self.state = nn.Sequential(*_layer(FEATURES, HIDDEN), *_layer(HIDDEN, HIDDEN))
        self.context = nn.Linear(HIDDEN, HIDDEN)
        self.together = nn.Sequential(*_layer(2 * HIDDEN, HIDDEN))
        self.of_further = None
        if self.further:
            self.of_further = nn.Sequential(
                nn.BatchNorm1d(self.further, affine=False),
                nn.Hardtanh(-LARGEST, LARGEST),
                nn.Dropout(2 * DROPOUT),
                nn.Linear(self.further, FURTHER),
                nn.GELU(),
            )
        joined = 2 * HIDDEN + (FURTHER if self.further else 0)
        self.of_residue = nn.Sequential(*_layer(joined, HIDDEN), nn.Linear(HIDDEN, len(LOCAL)))
        self.of_whole = nn.Sequential(*_layer(2 * HIDDEN + WHOLE, HIDDEN), nn.Linear(HIDDEN, len(GLOBAL)))

    def forward(self, graphs: Batch) -> tuple[Tensor, Tensor]:
        """Return scores of residues (L, 2) and of models (B, 5), in the order of `LOCAL` and `GLOBAL`."""
        further = graphs.node_embedding[:, PROFILE:]
        return self.scores(graphs.features, graphs.whole, further, graphs.batch, graphs.num_graphs)

    def scores(
        self, features_LF: Tensor, whole_BW: Tensor, further_LE: Tensor, batch_L: Tensor, models: int
    ) -> tuple[Tensor, Tensor]:
        """Return the result of `forward` from tensors; `batch_L` has the index of each residue's model."""
        features_LF = self.scale(features_LF).clamp(-LARGEST, LARGEST)
        whole_BW = self.scale_whole(whole_BW).clamp(-LARGEST, LARGEST)
        h_LH = self.state(features_LF)
        mean_BH = scatter(h_LH, batch_L, dim=0, dim_size=models, reduce="mean")
        seen = torch.cat([h_LH, self.context(mean_BH)[batch_L]], dim=1)
        y_LH = self.together(seen)
        if self.of_further is not None:
            seen = torch.cat([seen, self.of_further(further_LE)], dim=1)
        mean_BH, square_BH = (
            scatter(side, batch_L, dim=0, dim_size=models, reduce="mean") for side in (y_LH, y_LH.square())
        )
        spread_BH = (square_BH - mean_BH.square()).clamp(min=1e-6).sqrt()
        of_models = self.of_whole(torch.cat([mean_BH, spread_BH, whole_BW], dim=1))
        return self.of_residue(seen).sigmoid(), of_models.sigmoid()


def _layer(width: int, out: int) -> tuple[nn.Module, ...]:
    return nn.Linear(width, out), nn.GELU(), nn.Dropout(DROPOUT)
