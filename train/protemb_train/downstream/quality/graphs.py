"""A model as GraphQA sees it: who is near whom, and how they lie (doi:10.1093/bioinformatics/btaa714).

Shapes: L residues, E directed edges.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import PointPairFeatures

from protemb_sdk._chain import encode_sequence
from protemb_train.downstream.contacts import frames
from protemb_train.downstream.quality.decoys import Decoy

REACH = 12.0  # angstrom
MOST = 128  # neighbours
HOPS = 5  # along the chain, near or not


def edges_of(ca_coords: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return directed edges (sender, receiver), shape (2, E), ordered by receiver and then by sender."""
    distance = cdist(ca_coords, ca_coords)
    np.fill_diagonal(distance, -1.0)  # the nearest to itself, whoever lies in the same place
    length = len(ca_coords)
    hops = np.abs(np.arange(length)[:, None] - np.arange(length))
    near = distance < REACH
    if near.sum(axis=1).max() > MOST + 1:  # itself included
        rank = distance.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        near &= rank <= MOST
    receiver, sender = np.nonzero((near | (hops <= HOPS)) & (hops > 0))
    return np.stack([sender, receiver])


def graph_of(decoy: Decoy) -> Data:
    """Return a model as a graph: residue types, edges, point-pair features, labels.

    Point-pair features want a direction at each residue. GraphQA's points from C-alpha to C-beta; here it is
    the bisector of the C-alphas beside, which points the same way and needs nothing else.
    """
    coords = torch.from_numpy((decoy.ca_coords - decoy.ca_coords.mean(axis=0)).astype(np.float32))
    graph = Data(
        types=torch.from_numpy(encode_sequence(decoy.sequence)),
        features=torch.from_numpy(decoy.features),
        edge_index=torch.from_numpy(edges_of(decoy.ca_coords)),
        pos=coords,
        norm=frames(coords)[:, 0],
        quality=torch.from_numpy(decoy.quality)[None],
        residue_quality=torch.from_numpy(decoy.residue_quality),
        num_nodes=len(decoy),
    )
    graph = PointPairFeatures()(graph)
    graph.edge_attr = torch.nan_to_num(graph.edge_attr)
    del graph.norm
    return graph


def with_embeddings(graph: Data, node_LC: Tensor, edge_EC: Tensor) -> Data:
    """Return the graph with embeddings of its residues, and of the pairs at its edges."""
    full = graph.clone()
    full.node_embedding, full.edge_embedding = node_LC, edge_EC
    return full
