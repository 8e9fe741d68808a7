import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_train.network.features import BaseFeatures, PaperFeatures, centred, gaussian
from protemb_train.network.means import mean_readouts
from protemb_train.network.neighbours import find_neighbours

PAPER, BASE, NARROW = PaperFeatures(), BaseFeatures(), BaseFeatures(8)
SIGMA = torch.tensor([0.1])


def of_trace(trace, start=0, size=None):
    end = None if size is None else start + size
    return (
        torch.from_numpy(trace.ca_coords[start:end])[None],
        torch.from_numpy(trace.residue_type[start:end])[None],
        torch.from_numpy(trace.residue_index[start:end])[None],
    )


def base(coords, types, index):
    pair, residue = BASE(coords, types, index, SIGMA, torch.arange(coords.shape[1]))
    return pair, residue


def papers_channels(ca, types, index):
    """The 149 channels as described in the README of the authors' release, indexed [channel, row, column]."""
    length = len(ca)
    one_hot = np.zeros((length, 20))
    for i, t in enumerate(types):
        if t < 20:  # over ACDEFGHIKLMNPQRSTVWY
            one_hot[i, t] = 1
    angle = index[:, None] / 1000.0 ** (np.arange(12) / 11)
    residue = np.concatenate([one_hot, np.sin(angle), np.cos(angle)], axis=1)
    anchors = np.array([*range(0, 31), *range(32, 71, 2), *range(73, 101, 3)])
    out = np.zeros((149, length, length))
    for row in range(length):
        for column in range(length):
            d = np.clip(np.linalg.norm(ca[row] - ca[column]), 0, 100)
            bins = np.exp(-((d - anchors) ** 2) / (2 * 3**2))
            out[:, row, column] = np.concatenate([residue[column], residue[row], bins / (bins.sum() + 1e-6)])
    return out


def test_features_of_the_paper_equal_their_description(traces):
    trace = traces[0]
    inputs = of_trace(trace, 0, 40)
    types = inputs[1].clone()
    types[0, 3] = 20  # X has no one-hot entry
    stretched = inputs[0] * 4  # some distances above 100
    found = PAPER(stretched, types, inputs[2], torch.arange(40))[0].numpy()
    wanted = papers_channels(stretched[0].double().numpy(), types[0].numpy(), inputs[2][0].numpy())
    assert found.shape == (149, 40, 40)
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@given(seed=st.integers(0, 10_000), offset=st.floats(-1000, 1000))
@settings(max_examples=15, deadline=None)
def test_base_features_are_invariant_to_rotation_but_not_reflection(traces, seed, offset):
    coords, types, index = of_trace(traces[0])
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)  # a rotation, not a reflection
    moved = torch.from_numpy(coords[0].double().numpy() @ turn.T + offset).float()[None]
    for here, there in zip(base(coords, types, index), base(centred(moved), types, index), strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=3e-3 if abs(offset) > 10 else 1e-3)
    mirrored = base(coords * torch.tensor([1.0, 1.0, -1.0]), types, index)
    for here, there in zip(base(coords, types, index), mirrored, strict=True):
        assert (here - there).abs().max() > 0.3


def test_features_of_the_paper_are_invariant_to_reflection(traces):
    coords, types, index = of_trace(traces[0])
    rows = torch.arange(coords.shape[1])
    mirrored = coords * torch.tensor([1.0, 1.0, -1.0])
    torch.testing.assert_close(PAPER(coords, types, index, rows), PAPER(mirrored, types, index, rows))


def test_frames_and_angles_next_to_a_gap_are_zero(traces):
    coords, types, _ = of_trace(traces[0], 0, 12)
    index = torch.arange(12)[None].clone()
    index[:, 6:] += 5  # between residues 5 and 6
    lost = BASE.frames(coords, index).abs().sum(dim=(2, 3))[0] == 0
    assert lost.nonzero().flatten().tolist() == [0, 5, 6, 11]
    residue = BASE.residue(coords, types, index)[0]
    has_angle, has_torsion = residue[:, -2], residue[:, -1]
    assert (has_angle == 0).nonzero().flatten().tolist() == [0, 5, 6, 11]
    assert (has_torsion == 0).nonzero().flatten().tolist() == [0, 4, 5, 6, 10, 11]
    assert (residue[has_angle == 0, -5] == 0).all() and (residue[has_torsion == 0, -4:-2] == 0).all()


def test_frames_are_right_handed_and_nearly_orthonormal(traces):
    coords, _, index = of_trace(traces[0])
    frames = BASE.frames(coords, index)[0, 1:-1]
    assert (torch.linalg.det(frames) > 0.5).all()
    gram = frames @ frames.transpose(1, 2)
    torch.testing.assert_close(gram, torch.eye(3).expand_as(gram), rtol=0, atol=0.2)


@pytest.mark.parametrize("length", [1, 2, 3, 9])
@pytest.mark.parametrize("shape", ["coincident", "collinear", "random"])
def test_features_are_finite_for_degenerate_chains(length, shape):
    line = torch.arange(length).float()[None, :, None] * torch.tensor([3.8, 0.0, 0.0])
    coords = {"coincident": 0 * line, "collinear": line, "random": torch.randn(1, length, 3)}[shape]
    types, index, rows = torch.full((1, length), 20), torch.arange(length)[None], torch.arange(length)
    for sigma in (0.01, 10.0):
        pair, residue = BASE(coords, types, index, torch.tensor([sigma]), rows)
        assert pair.isfinite().all() and residue.isfinite().all()
        assert pair.shape == (1, BASE.pair_channels, length, length)
        narrow, _ = NARROW(coords, types, index, torch.tensor([sigma]), rows)
        assert narrow.shape == (1, 28, length, length) and (narrow[:, 8:] == pair[:, 32:]).all()
        assert residue.shape == (1, length, BASE.residue_channels)
    assert PAPER(coords, types, index, rows).isfinite().all()


def test_features_of_rows_equal_slices_of_the_whole(traces):
    inputs = of_trace(traces[0])
    everything, rows = torch.arange(inputs[0].shape[1]), torch.arange(11, 29)
    whole = PAPER(*inputs, everything)
    torch.testing.assert_close(PAPER(*inputs, rows), whole[:, :, 11:29], rtol=0, atol=1e-6)
    part, whole = BASE(*inputs, SIGMA, rows), BASE(*inputs, SIGMA, everything)
    torch.testing.assert_close(part[0], whole[0][:, :, 11:29], rtol=0, atol=1e-6)
    torch.testing.assert_close(part[1], whole[1], rtol=0, atol=0)


def test_bond_stretch_is_set_for_bonded_pairs_in_units_of_noise():
    coords = torch.tensor([[[0.0, 0, 0], [3.9, 0, 0], [3.9, 3.8, 0]]])
    types, index, rows = torch.zeros(1, 3, dtype=torch.long), torch.tensor([[0, 1, 3]]), torch.arange(3)
    pair, _ = BASE(coords, types, index, SIGMA, rows)
    in_noise = pair[0, BASE.radial_bins + 1]
    assert in_noise[0, 1].item() == pytest.approx(np.tanh(0.1 / 0.2), abs=1e-5)
    assert in_noise[1, 2] == 0 and in_noise[0, 2] == 0 and in_noise[0, 0] == 0


@given(scale=st.floats(0.1, 1000), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_no_feature_is_subnormal_at_any_distance(scale, seed):
    generator = torch.Generator().manual_seed(seed)
    coords = centred(torch.randn(1, 40, 3, generator=generator) * scale)
    index = torch.arange(40)[None]
    pair, _ = base(coords, torch.zeros_like(index), index)
    edges = find_neighbours(BASE, coords, index, 24)
    near = mean_readouts(torch.ones(1, 1, 40, 40), coords)
    for values in (pair, edges.edge_LKE, edges.present_LK, edges.burial_BLD, *near.values()):
        # Far below the precision of a sum in float32, and far enough above 1e-38 for products.
        assert not ((values != 0) & (values.abs() < 1e-21)).any()
    assert torch.equal(gaussian(torch.tensor([0.0, 5.0])), torch.tensor([0.0, -25.0]).exp())
