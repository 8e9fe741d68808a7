"""GraphQA (Baldassarre et al. 2021, doi:10.1093/bioinformatics/btaa714) with optional embeddings.

Message passing with edge, node and global states; a sigmoid for each score of residues and of the model. A
linear layer of concatenated inputs is calculated as a sum of layers of the parts, each at its smallest size:
the same function, several times faster, because edges share the parts of their sender and of their model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.utils import scatter

from protemb_train.downstream.quality.decoys import GLOBAL, LOCAL
from protemb_train.downstream.quality.naming import Namer
from protemb_train.network.features import gaussian

TYPES = 21  # including X
SEPARATIONS = (1, 2, 3, 4, 5, 10, 15)
FARTHEST = 20.0  # angstrom, largest centre of the radial basis
GEOMETRY = 4  # number of point-pair features


@dataclass(frozen=True, slots=True)
class GraphQAConfig:
    """Widths, as in the published checkpoint.

    Parameters
    ----------
    node_embedding, edge_embedding : int
        Channels of the embeddings of residues and of pairs; 0 for none.
    features : int
        Features of residues besides their type; 0 is the RAW variant.
    types, separation, basis, encoded_nodes, encoded_edges : int
        Widths of the inputs.
    out_edges, out_nodes, in_global, out_global : int
        Widths of the last layer; widths change from layer to layer between input and output.
    layers : int
    dropout : float
    """

    node_embedding: int = 0
    edge_embedding: int = 0
    features: int = 0
    types: int = 64
    separation: int = 64
    basis: int = 32
    encoded_nodes: int = 64
    encoded_edges: int = 128
    out_edges: int = 16
    out_nodes: int = 64
    in_global: int = 512
    out_global: int = 32
    layers: int = 3
    dropout: float = 0.2


def widths(first: int, last: int, layers: int) -> list[int]:
    """Return widths from first to last, evenly spaced on a logarithmic scale; powers of two in between."""
    sizes = np.geomspace(first, last, layers + 1)
    inner = np.exp2(np.log2(sizes[1:-1]).round()).astype(int).tolist()
    return [first, *inner, last]


def _after(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(dropout), nn.BatchNorm1d(width), nn.ReLU())


class Layer(nn.Module):
    """One round of messages: edges, then nodes, then the global state.

    Parameters
    ----------
    edges, nodes, whole : sequence of int
        Widths before and after; `whole` may start with 0.
    dropout : float
    """

    def __init__(
        self, edges: Sequence[int], nodes: Sequence[int], whole: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.edge_edge = nn.Linear(edges[0], edges[1])
        self.node_edge = nn.Linear(nodes[0], edges[1], bias=False)
        self.whole_edge = nn.Linear(whole[0], edges[1], bias=False) if whole[0] else None
        self.after_edge = _after(edges[1], dropout)
        self.to_node = nn.Linear(nodes[0] + edges[1], nodes[1])
        self.whole_node = nn.Linear(whole[0], nodes[1], bias=False) if whole[0] else None
        self.after_node = _after(nodes[1], dropout)
        self.to_whole = nn.Linear(nodes[1] + edges[1] + whole[0], whole[1])
        self.after_whole = _after(whole[1], dropout)

    def forward(
        self, x_LN: Tensor, edge_EC: Tensor, edge_index: Tensor, whole_BG: Tensor, batch_L: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return new states of nodes, edges and models."""
        sender, receiver = edge_index
        of_node = self.node_edge(x_LN)
        if self.whole_edge is not None:
            of_node = of_node + self.whole_edge(whole_BG)[batch_L]
        edge_EC = self.after_edge(self.edge_edge(edge_EC) + of_node[sender])
        message = scatter(edge_EC, receiver, dim=0, dim_size=len(x_LN), reduce="mean")
        x_LN = self.to_node(torch.cat([x_LN, message], dim=1))
        if self.whole_node is not None:
            x_LN = x_LN + self.whole_node(whole_BG)[batch_L]
        x_LN = self.after_node(x_LN)
        models = len(whole_BG)
        of_edges = scatter(edge_EC, batch_L[sender], dim=0, dim_size=models, reduce="mean")
        of_nodes = scatter(x_LN, batch_L, dim=0, dim_size=models, reduce="mean")
        whole_BG = self.after_whole(self.to_whole(torch.cat([of_edges, of_nodes, whole_BG], dim=1)))
        return x_LN, edge_EC, whole_BG


class GraphQA(nn.Module):
    """Scores of every residue and of the model, each in 0 to 1.

    Parameters
    ----------
    config : GraphQAConfig
    namer : Namer, optional
        Network whose features of residues are added; it is not trained.
    """

    centres: Tensor
    bins: Tensor

    def __init__(self, config: GraphQAConfig, namer: Namer | None = None) -> None:
        super().__init__()
        self.config = config
        self.namer = None if namer is None else namer.requires_grad_(False)
        c = config
        self.types = nn.Embedding(TYPES, c.types)
        self.separation = nn.Embedding(len(SEPARATIONS) + 1, c.separation)
        self.register_buffer("centres", torch.linspace(0, FARTHEST, c.basis), persistent=False)
        self.register_buffer("bins", torch.tensor(SEPARATIONS), persistent=False)
        self.node_encoder = _encoder(c.features, c.encoded_nodes) if c.features else None
        self.edge_encoder = _encoder(GEOMETRY, c.encoded_edges)
        node_in = c.types + (c.encoded_nodes if c.features else 0) + c.node_embedding
        edge_in = c.encoded_edges + c.separation + c.basis + c.edge_embedding
        edges = widths(edge_in, c.out_edges, c.layers)
        nodes = widths(node_in, c.out_nodes, c.layers)
        whole = [0, *widths(c.in_global, c.out_global, c.layers)[1:]]
        self.layers = nn.ModuleList(
            Layer(edges[k : k + 2], nodes[k : k + 2], whole[k : k + 2], c.dropout) for k in range(c.layers)
        )
        self.of_residue = nn.Linear(nodes[-1], len(LOCAL))
        self.of_whole = nn.Linear(whole[-1], len(GLOBAL))

    def forward(self, graphs: Batch) -> tuple[Tensor, Tensor]:
        """Return scores of residues (L, 2) and of models (B, 5), in the order of `LOCAL` and `GLOBAL`."""
        return self.scores(
            graphs.types,
            graphs.edge_index,
            graphs.edge_attr,
            graphs.features if self.node_encoder is not None else None,
            graphs.node_embedding if self.config.node_embedding else None,
            graphs.edge_embedding if self.config.edge_embedding else None,
            graphs.batch,
            graphs.num_graphs,
        )

    def scores(
        self,
        types_L: Tensor,
        edge_index: Tensor,
        geometry_E4: Tensor,
        features_LF: Tensor | None,
        node_LC: Tensor | None,
        edge_EC: Tensor | None,
        batch_L: Tensor,
        models: int,
    ) -> tuple[Tensor, Tensor]:
        """Return the result of `forward` from tensors; `batch_L` has the index of each residue's model."""
        nodes = [self.types(types_L)]
        if self.node_encoder is not None:
            nodes.append(self.node_encoder(features_LF))
        apart = (edge_index[0] - edge_index[1]).abs()
        edges = [
            self.edge_encoder(geometry_E4),
            self.separation((self.bins < apart[:, None]).sum(dim=1)),
            gaussian(geometry_E4[:, :1] - self.centres),
        ]
        nodes += [] if node_LC is None else [node_LC]
        edges += [] if edge_EC is None else [edge_EC]
        x, edge = torch.cat(nodes, dim=1), torch.cat(edges, dim=1)
        whole = x.new_zeros(models, 0)
        for layer in self.layers:
            x, edge, whole = layer(x, edge, edge_index, whole, batch_L)
        return self.of_residue(x).sigmoid(), self.of_whole(whole).sigmoid()


def _encoder(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, out // 2), nn.ReLU(), nn.Linear(out // 2, out), nn.ReLU())


def quality_loss(
    residues: tuple[Tensor, Tensor], models: tuple[Tensor, Tensor], local_weight: float = 20.0
) -> Tensor:
    """Return the mean squared error of scores, without missing labels (NaN), summed over the scores.

    Parameters
    ----------
    residues, models : tuple of Tensor
        Predicted and true scores, shapes (L, 2) and (B, 5).
    local_weight : float
        Weight of residues relative to models.
    """
    return local_weight * _masked(*residues) + _masked(*models)


def ranking_loss(predicted_BS: Tensor, true_BS: Tensor, target_B: Tensor) -> Tensor:
    """Return the mean squared error of differences between models of one target, without missing labels.

    Parameters
    ----------
    predicted_BS, true_BS : Tensor, shape (B, S)
        Scores of models.
    target_B : Tensor, int64, shape (B,)
        Target of each model. Without two models of one target the loss is 0.
    """
    error_BS = predicted_BS - true_BS
    place_B = torch.arange(len(target_B))
    first, second = torch.nonzero(
        (target_B[:, None] == target_B[None, :]) & (place_B[:, None] < place_B[None, :])
    ).unbind(dim=1)
    between = error_BS[first] - error_BS[second]
    return _masked(between.nan_to_num(), torch.where(torch.isfinite(between), 0.0, torch.nan))


def _masked(predicted: Tensor, true: Tensor) -> Tensor:
    known = torch.isfinite(true)
    squared = (predicted - true.nan_to_num()).square() * known
    return (squared.sum(dim=0) / known.sum(dim=0).clamp(min=1)).sum()
