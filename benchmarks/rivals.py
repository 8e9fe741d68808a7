"""Other encoders, with random weights, through their usual libraries.

ESM-2 is Hugging Face's at its published sizes. The two structure encoders have the depth, width and graph of
GearNet and ProteinMPNN (`gearnet`, `proteinmpnn`), but are not their authors' code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing, RGCNConv
from torch_geometric.utils import scatter

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


class MPNNLayer(MessagePassing):
    """A layer of ProteinMPNN's encoder: nodes, then edges, by three-layer perceptrons of width 128."""

    def __init__(self, width: int) -> None:
        super().__init__(aggr="sum")
        self.nodes, self.edges = (
            nn.Sequential(
                nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
                nn.Linear(width, width),
            )
            for _ in range(2)
        )  # fmt: skip
        self.wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, edges: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norms[0](x + self.propagate(edges, x=x, e=e) / 30)
        x = self.norms[1](x + self.wide(x))
        e = self.norms[2](e + self.edges(torch.cat([x[edges[1]], x[edges[0]], e], dim=1)))
        return x, e

    def message(self, x_i: Tensor, x_j: Tensor, e: Tensor) -> Tensor:
        return self.nodes(torch.cat([x_i, x_j, e], dim=1))


class ProteinMPNN(nn.Module):
    """Three such layers over 48 neighbours; edges have distance (16 radial functions) and separation."""

    WIDTH, NEIGHBOURS, LAYERS = 128, 48, 3

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(16 + 65, self.WIDTH)
        self.layers = nn.ModuleList(MPNNLayer(self.WIDTH) for _ in range(self.LAYERS))
        self.register_buffer("centres", torch.linspace(2, 22, 16))

    def forward(self, chain: Chain) -> Tensor:
        edges = torch.from_numpy(neighbours(chain.ca_coords, self.NEIGHBOURS))
        coords = torch.from_numpy(chain.ca_coords).float()
        distance = (coords[edges[0]] - coords[edges[1]]).norm(dim=1, keepdim=True)
        radial = torch.exp(-(((distance - self.centres) / 1.25) ** 2))
        separation = nn.functional.one_hot((edges[0] - edges[1]).clamp(-32, 32) + 32, 65)
        e = self.enter(torch.cat([radial, separation.float()], dim=1))
        x = scatter(torch.zeros_like(e), edges[1], dim=0, dim_size=len(coords))
        for layer in self.layers:
            x, e = layer(x, edges, e)
        return x.mean(dim=0)


def of_module(module: nn.Module) -> Encoder:
    """Return a function that computes a protein vector from a chain with a module."""
    module = module.eval()

    @torch.inference_mode()
    def encode(chain: Chain) -> np.ndarray:
        return module(chain).numpy()

    return encode
