"""Features of whole chains: means of ordered parts, distances of segments, and their ONNX graph."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from protemb_export.graph import to_onnx
from protemb_train.network.protein import (
    DISTANCES,
    PARTS,
    SEGMENTS,
    ordered_parts,
    protein_features,
    segment_distances,
)


@pytest.mark.parametrize("length", [1, 2, 4, 9, 10, 64, 137])
def test_ordered_parts_divide_the_chain_equally(length):
    """All parts have equal weight, all residues have equal weight, and the parts are in chain order."""
    for parts in (PARTS, SEGMENTS):
        weights = ordered_parts(length, parts)
        assert torch.allclose(weights.sum(dim=1), torch.ones(parts))
        assert torch.allclose(weights.sum(dim=0), torch.full((length,), parts / length), atol=1e-5)
        assert ((weights @ torch.arange(float(length))).diff() >= 0).all()
        if length % parts == 0:
            part = torch.arange(length) * parts // length
            expected = (part[None] == torch.arange(parts)[:, None]) * (parts / length)
            assert torch.allclose(weights, expected)


def test_segment_distances_use_centroids_and_are_rotation_invariant(traces):
    coords = traces[0].ca_coords[:60].astype(np.float64)
    groups = coords.reshape(SEGMENTS, 6, 3)
    centroids = groups.mean(axis=1)
    upper = np.triu_indices(SEGMENTS, 1)
    distances = np.linalg.norm(centroids[:, None] - centroids[None], axis=-1)[upper]
    radii = np.sqrt(np.square(groups - centroids[:, None]).sum(axis=-1).mean(axis=1))
    found = segment_distances(torch.from_numpy(coords).float()[None])[0].numpy()
    expected = np.concatenate([(np.log1p(distances) - 2.9) / 0.5, (np.log1p(radii) - 2.2) / 0.4])
    assert found.shape == (DISTANCES,) and np.allclose(found, expected, atol=1e-4)
    turned = coords @ Rotation.random(rng=1).as_matrix().T + 300.0
    assert np.allclose(segment_distances(torch.from_numpy(turned).float()[None])[0].numpy(), found, atol=1e-3)


def test_features_depend_on_residue_order_but_not_on_the_batch(traces):
    coords = [torch.from_numpy(np.array(trace.ca_coords[:60]))[None] for trace in traces[:2]]
    state = torch.randn(2, 60, 6, generator=torch.Generator().manual_seed(0))
    together = protein_features(state, torch.cat(coords))
    alone = torch.cat([protein_features(state[k : k + 1], coords[k]) for k in range(2)])
    assert torch.allclose(together, alone, atol=1e-5)
    back = protein_features(state.flip(1), torch.cat(coords).flip(1))
    assert torch.allclose(back[:, :30].reshape(2, 5, 6), together[:, :30].reshape(2, 5, 6).flip(1), atol=1e-6)
    assert (back - together).abs().max() > 0.1


def test_the_exported_graph_equals_the_function():
    """ONNX Runtime gives equal features for lengths and batch sizes other than those of the export."""

    class Features(nn.Module):
        def forward(self, state, coords):
            return protein_features(state, coords)

    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    arguments = torch.randn(2, 23, 4), torch.randn(2, 23, 3)
    model = to_onnx(Features().eval(), arguments, ["state", "coords"], ["features"], (dynamic, dynamic))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, length in [(1, 2), (3, 10), (2, 77)]:
        state, coords = torch.randn(batch, length, 4), torch.randn(batch, length, 3)
        found = session.run(None, {"state": state.numpy(), "coords": coords.numpy()})[0]
        assert np.allclose(found, protein_features(state, coords).numpy(), atol=1e-4)
