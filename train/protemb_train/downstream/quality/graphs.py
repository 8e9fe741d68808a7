"""Graph of a model for GraphQA: neighbours and their geometry (doi:10.1093/bioinformatics/btaa714).

Shapes: L residues, E directed edges.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from protemb_sdk._structure.chain import encode_sequence
from protemb_train.downstream.common.neighbour_graph import distances, frames
from protemb_train.downstream.quality.decoys import Decoy

REACH = 12.0  # angstrom
MOST = 128  # largest number of neighbours
HOPS = 5  # residues along the chain, connected at any distance


def edges_of(ca_coords: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return directed edges (sender, receiver), shape (2, E), ordered by receiver and then by sender."""
    found: NDArray[np.int64] = edges_in(torch.from_numpy(ca_coords)).numpy()
    return found


def edges_in(coords_L3: Tensor) -> Tensor:
    """Return the result of `edges_of`; can be exported to ONNX."""
    place = torch.arange(coords_L3.shape[0])
    hops = (place[:, None] - place[None, :]).abs()
    # Each residue is its own nearest, even if another has the same position.
    distance = torch.where(hops == 0, -1.0, distances(coords_L3))
    padded = F.pad(distance, (0, MOST + 1), value=torch.inf)
    nearest = padded.topk(MOST + 1, dim=1, largest=False).indices  # including the residue itself
    among = torch.zeros_like(padded).scatter(1, nearest, 1.0)[:, : len(coords_L3)] > 0
    near = (distance < REACH) & among
    receiver, sender = torch.nonzero((near | (hops <= HOPS)) & (hops > 0)).unbind(dim=1)
    return torch.stack([sender, receiver])


def geometry_of(coords_L3: Tensor, edges_2E: Tensor) -> Tensor:
    """Return point-pair features, shape (E, 4): distance, angle of each direction to it, and between them.

    They need a direction at each residue. GraphQA's is from C-alpha to C-beta; here it is the bisector of the
    adjacent C-alphas, which has a similar direction and needs no other atoms.
    """
    sender, receiver = edges_2E
    normal_L3 = frames(coords_L3)[:, 0]
    apart = coords_L3[receiver] - coords_L3[sender]
    one, other = normal_L3[sender], normal_L3[receiver]
    distance = apart.square().sum(dim=1).sqrt()
    return torch.stack([distance, _angle(one, apart), _angle(other, apart), _angle(one, other)], dim=1)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Return angles in 0 to pi; 0 if a vector is zero.

    Without atan2: for a cross product of zero, ONNX Runtime's atan2 returns -pi instead of pi.
    """
    cross = torch.linalg.cross(a, b).square().sum(dim=1).sqrt()
    dot = (a * b).sum(dim=1)
    angle = math.pi / 2 - torch.atan(dot / cross.clamp(min=1e-20))
    return torch.where((cross == 0) & (dot == 0), 0.0, angle)


def graph_of(decoy: Decoy) -> Data:
    """Return the graph of a model: residue types, edges, point-pair features, labels."""
    coords = torch.from_numpy((decoy.ca_coords - decoy.ca_coords.mean(axis=0)).astype(np.float32))
    edges = torch.from_numpy(edges_of(decoy.ca_coords))
    return Data(
        types=torch.from_numpy(encode_sequence(decoy.sequence)),
        features=torch.from_numpy(decoy.features),
        edge_index=edges,
        edge_attr=geometry_of(coords, edges),
        pos=coords,
        quality=torch.from_numpy(decoy.quality)[None],
        residue_quality=torch.from_numpy(decoy.residue_quality),
        num_nodes=len(decoy),
    )


def with_embeddings(graph: Data, node_LC: Tensor, edge_EC: Tensor) -> Data:
    """Return the graph with embeddings of residues, and of the pairs at its edges."""
    full = graph.clone()
    full.node_embedding, full.edge_embedding = node_LC, edge_EC
    return full
