"""Other encoders, with random weights, through their usual libraries.

ESM-2 is Hugging Face's at its published sizes. `GearNet` has the depth, width and graph of the published
network, but is not its authors' code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch_geometric.nn import RGCNConv

from protemb_sdk import Chain

# Layers, width, heads of the published models.
ESM2 = {"8M": (6, 320, 20), "35M": (12, 480, 20), "150M": (30, 640, 20), "650M": (33, 1280, 20)}

Encoder = Callable[[Chain], np.ndarray]


def esm2(size: str) -> Encoder:
    """Return a protein language model, which uses the sequence only."""
    from transformers import EsmConfig, EsmModel

    layers, width, heads = ESM2[size]
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=4 * width, max_position_embeddings=1026,
        position_embedding_type="rotary", token_dropout=True, emb_layer_norm_before=False,
    )  # fmt: skip
    model = EsmModel(config, add_pooling_layer=False).eval()

    @torch.inference_mode()
    def encode(chain: Chain) -> np.ndarray:
        tokens = torch.from_numpy(chain.residue_type)[None] + 4  # arbitrary letters
        return model(tokens).last_hidden_state.mean(dim=1).numpy()

    return encode


def neighbours(coords: np.ndarray, k: int) -> np.ndarray:
    """Return edges (2, E) from the k nearest C-alphas of each residue to it."""
    k = min(k + 1, len(coords))
    nearest = cKDTree(coords).query(coords, k)[1][:, 1:]
    return np.stack([nearest.ravel(), np.repeat(np.arange(len(coords)), k - 1)])


class GearNet(nn.Module):
    """Six relational convolutions of width 512 over seven kinds of edges: sequence (5), radius, nearest."""

    WIDTH, LAYERS, RELATIONS = 512, 6, 7

    def __init__(self) -> None:
        super().__init__()
        widths = [21] + [self.WIDTH] * self.LAYERS
        self.layers = nn.ModuleList(
            RGCNConv(a, b, self.RELATIONS) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(self.WIDTH) for _ in range(self.LAYERS))

    @staticmethod
    def edges(chain: Chain) -> tuple[Tensor, Tensor]:
        length, coords = len(chain), chain.ca_coords
        found = []
        for step in range(-2, 3):
            source = np.arange(max(0, -step), min(length, length - step))
            found.append(np.stack([source, source + step]))
        close = cKDTree(coords).query_pairs(10.0, output_type="ndarray").T
        near = neighbours(coords, 10)
        for both in (np.concatenate([close, close[::-1]], axis=1), near):
            found.append(both[:, np.abs(both[0] - both[1]) >= 5])
        kinds = np.repeat(np.arange(len(found)), [part.shape[1] for part in found])
        return torch.from_numpy(np.concatenate(found, axis=1)), torch.from_numpy(kinds)

    def forward(self, chain: Chain) -> Tensor:
        edges, kinds = self.edges(chain)
        x = nn.functional.one_hot(torch.from_numpy(chain.residue_type), 21).float()
        outputs = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            y = torch.relu(norm(layer(x, edges, kinds)))
            x = y + x if x.shape == y.shape else y
            outputs.append(x.mean(dim=0))
        return torch.cat(outputs)


def of_module(module: nn.Module) -> Encoder:
    """Return a function that computes a protein vector from a chain with a module."""
    module = module.eval()

    @torch.inference_mode()
    def encode(chain: Chain) -> np.ndarray:
        return module(chain).numpy()

    return encode
