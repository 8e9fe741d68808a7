"""Features of whole chains: parts in order, the course of the chain, and their graph."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.spatial.transform import Rotation

from protemb_export.graph import to_onnx
from protemb_train.network.features import centred
from protemb_train.network.protein import (
    PARTS,
    SEGMENTS,
    SHAPE,
    ProteinFeatures,
    chain_shape,
    part_means,
    part_weights,
)


@pytest.mark.parametrize("length", [5, 6, 11, 64, 137])
def test_parts_are_those_of_the_formula(length):
    part = np.floor(PARTS * np.arange(length) / length).astype(int)
    x = torch.randn(2, length, 3, generator=torch.Generator().manual_seed(length))
    expected = np.stack([x.numpy()[:, part == k].mean(axis=1) for k in range(PARTS)], axis=1)
    assert np.allclose(part_means(x, PARTS).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
def test_short_chains_have_every_part(length):
    """Each part of a chain shorter than their number is a residue, in order."""
    weights = part_weights(torch.zeros(1, length, 1), SEGMENTS)
    assert torch.allclose(weights.sum(dim=1), torch.ones(SEGMENTS))
    place = weights @ torch.arange(float(length))
    assert (place.diff() >= 0).all() and place[0] == 0 and place[-1] == length - 1
    features = ProteinFeatures()(torch.randn(1, length, 4), torch.randn(1, length, 3))
    assert features.shape == (1, ProteinFeatures.width(4)) and torch.isfinite(features).all()


def test_the_course_is_that_of_centroids_and_does_not_turn(traces):
    coords = traces[0].ca_coords.astype(np.float64)
    segment = np.floor(SEGMENTS * np.arange(len(coords)) / len(coords)).astype(int)
    groups = [coords[segment == k] for k in range(SEGMENTS)]
    centroids = np.array([group.mean(axis=0) for group in groups])
    upper = np.triu_indices(SEGMENTS, 1)
    distances = np.linalg.norm(centroids[:, None] - centroids[None], axis=-1)[upper]
    radii = [np.sqrt(np.square(group - group.mean(axis=0)).sum(axis=1).mean()) for group in groups]
    found = chain_shape(torch.from_numpy(coords).float()[None])[0].numpy()
    assert found.shape == (SHAPE,)
    assert np.allclose(found, np.log1p(np.concatenate([distances, radii])), atol=1e-5)
    turned = coords @ Rotation.random(rng=1).as_matrix().T + 3.0
    assert np.allclose(chain_shape(torch.from_numpy(turned).float()[None])[0].numpy(), found, atol=1e-5)


def test_order_matters_and_batches_do_not(traces):
    coords = [centred(torch.from_numpy(np.array(trace.ca_coords[:60]))[None]) for trace in traces[:2]]
    state = torch.randn(2, 60, 6, generator=torch.Generator().manual_seed(0))
    module = ProteinFeatures().eval()
    together = module(state, torch.cat(coords))
    alone = torch.cat([module(state[k : k + 1], coords[k]) for k in range(2)])
    assert torch.allclose(together, alone, atol=1e-6)
    back = module(state.flip(1), torch.cat(coords).flip(1))
    assert torch.allclose(back[:, :30].reshape(2, 5, 6), together[:, :30].reshape(2, 5, 6).flip(1), atol=1e-6)
    assert (back - together).abs().max() > 0.1


def test_the_graph_is_the_module(tmp_path):
    """ONNX Runtime computes the same for other lengths and batches than those of the export."""
    module = ProteinFeatures().eval()
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    arguments = torch.randn(2, 23, 4), torch.randn(2, 23, 3)
    model = to_onnx(module, arguments, ["state", "coords"], ["features"], (dynamic, dynamic))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, length in [(1, 2), (3, 10), (2, 77)]:
        state, coords = torch.randn(batch, length, 4), torch.randn(batch, length, 3)
        found = session.run(None, {"state": state.numpy(), "coords": coords.numpy()})[0]
        assert np.allclose(found, module(state, coords).numpy(), atol=1e-5)
