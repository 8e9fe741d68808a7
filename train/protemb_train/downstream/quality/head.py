"""Our quality network: message passing between spatial neighbours, with their geometry, on readouts.

The messages are those of the head for interface sites. Of the pair map only the readouts are used, which
Numba calculates in one pass, so that no pair map is needed to run the network.

Shapes: L residues, E channels of readouts, K neighbours, H hidden channels, B models.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.utils import scatter

from protemb_train.downstream.common.messages import BURIAL_SPREAD, DROPOUT, HIDDEN, LARGEST, TYPES
from protemb_train.downstream.common.neighbour_graph import EDGE, Graph, neighbour_graph
from protemb_train.downstream.quality.decoys import GLOBAL, LOCAL
from protemb_train.downstream.quality.naming import FEATURES, Namer
from protemb_train.network.messages import Messages
from protemb_train.network.neighbours import BURIAL

LAYERS = 4
RESIDUES = 150  # of a typical chain


class GraphData(Data):  # type: ignore[misc]
    """The graph of a model; indices of neighbours are shifted when graphs are batched."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self.num_nodes if key == "neighbour" else super().__inc__(key, value, *args, **kwargs)


def graph_data(types_L: Tensor, coords_L3: Tensor) -> GraphData:
    """Return the graph of a model.

    Parameters
    ----------
    types_L : Tensor, int64, shape (L,)
        Positions in `ALPHABET`.
    coords_L3 : Tensor, float32, shape (L, 3)
        C-alpha coordinates in angstrom, centred.
    """
    graph = neighbour_graph(coords_L3)
    return GraphData(
        types=types_L,
        edge=graph.edge_LKE,
        neighbour=graph.neighbour_LK,
        present=graph.present_LK,
        burial=graph.burial_LB,
        num_nodes=len(types_L),
    )


class QualityHead(nn.Module):
    """Scores of every residue and of the model, each in 0 to 1.

    Parameters
    ----------
    extra : int
        Channels of the readouts, standardised; 0 for none.
    namer : Namer, optional
        Network whose features indicate how well the sequence fits the fold; it is not trained.
    """

    def __init__(self, extra: int, namer: Namer | None = None) -> None:
        super().__init__()
        self.extra = extra
        self.namer = None if namer is None else namer.requires_grad_(False)
        self.input = nn.Linear(TYPES + extra + len(BURIAL) + (0 if namer is None else FEATURES), HIDDEN)
        self.dropout = nn.Dropout(DROPOUT)
        self.layers = nn.ModuleList(Messages(HIDDEN, EDGE, DROPOUT) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(HIDDEN)
        self.of_residue = nn.Linear(HIDDEN, len(LOCAL))
        self.of_whole = nn.Sequential(
            nn.Linear(2 * HIDDEN + len(LOCAL) + 1, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(GLOBAL))
        )

    def forward(self, graphs: Batch) -> tuple[Tensor, Tensor]:
        """Return scores of residues (L, 2) and of models (B, 5), in the order of `LOCAL` and `GLOBAL`."""
        graph = Graph(graphs.edge.float(), graphs.neighbour, graphs.present.float(), graphs.burial)
        names = None if self.namer is None else graphs.names
        y_LH, local_L2 = self.residues(graphs.types, graphs.node_embedding, graph, names)
        pooled = [
            scatter(side, graphs.batch, dim=0, dim_size=graphs.num_graphs, reduce="mean")
            for side in (y_LH, y_LH.square(), local_L2, torch.ones_like(local_L2[:, :1]))
        ]
        count_B1 = scatter(pooled[3][graphs.batch], graphs.batch, dim=0, reduce="sum")
        return local_L2, self.whole(pooled[0], pooled[1], pooled[2], count_B1)

    def residues(
        self, types_L: Tensor, extra_LE: Tensor, graph: Graph, names_LF: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return states (L, H) and scores (L, 2) of residues; `names_LF` are the features of a namer."""
        types_LT = (types_L[:, None] == torch.arange(TYPES)).to(torch.float32)
        types_LT = (TYPES * types_LT - 1) / math.sqrt(TYPES - 1)
        burial = (graph.burial_LB - 1) / BURIAL_SPREAD
        parts = [types_LT, extra_LE.clamp(-LARGEST, LARGEST), burial.clamp(-LARGEST, LARGEST)]
        if names_LF is not None:
            parts.append(names_LF.clamp(-LARGEST, LARGEST))
        seen = torch.cat(parts, dim=1)
        y_LH = self.input(self.dropout(seen))
        for layer in self.layers:
            y_LH = layer(y_LH, graph)
        y_LH = self.norm(y_LH)
        return y_LH, self.of_residue(y_LH).sigmoid()

    def whole(self, mean_BH: Tensor, square_BH: Tensor, local_B2: Tensor, count_B1: Tensor) -> Tensor:
        """Return scores of models (B, 5) from means over their residues."""
        spread_BH = (square_BH - mean_BH.square()).clamp(min=1e-6).sqrt()
        size = (count_B1 / RESIDUES).log()
        scores: Tensor = self.of_whole(torch.cat([mean_BH, spread_BH, local_B2, size], dim=1)).sigmoid()
        return scores
