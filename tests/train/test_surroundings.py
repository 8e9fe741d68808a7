"""Surroundings of a residue are angles and neighbour counts, invariant to rigid motions of the chain."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from protemb_sdk import read_chains
from protemb_train.network.features import BaseFeatures, centred
from protemb_train.network.neighbours import BURIAL
from protemb_train.network.surroundings import SURROUNDINGS, surroundings

FEATURES = BaseFeatures()


@pytest.fixture(scope="module")
def chain(structures):
    return read_chains(structures / "1a8o.cif").chains[0]


def of(coords, index):
    coords_BL3 = centred(torch.from_numpy(np.asarray(coords, dtype=np.float32))[None])
    return surroundings(FEATURES, coords_BL3, torch.from_numpy(np.asarray(index))[None])[0].numpy()


def test_counts_are_sums_over_the_other_residues(chain):
    found = of(chain.ca_coords, chain.residue_index)
    assert found.shape == (len(chain), SURROUNDINGS)
    coords = chain.ca_coords.astype(np.float64)
    squared = np.square(coords[:, None] - coords).sum(axis=2)
    for k, (scale, usual) in enumerate(BURIAL):
        near = np.exp(-squared / scale**2)
        np.fill_diagonal(near, 0)
        np.testing.assert_allclose((found[:, 5 + 2 * k] + 1) * usual, near.sum(axis=1), rtol=1e-4)
        side = (found[:, 6 + 2 * k] + 1) * usual / 2
        assert (side < near.sum(axis=1) * 1.0001).all() and (side > 0).all()


def test_the_second_count_is_on_the_side_of_the_side_chain(chain, structures):
    """A residue has more neighbours there after a probe is placed at its C-beta than at the opposite side."""
    atoms = {
        (r.seqid.num, a.name): np.array(a.pos.tolist())
        for r in gemmi.read_structure(str(structures / "1a8o.cif"))[0][0]
        for a in r
    }
    coords, index = chain.ca_coords.astype(np.float64), chain.residue_index
    right = []
    for n in range(1, len(chain) - 1):
        if (beta := atoms.get((int(chain.auth_seq[n]), "CB"))) is None:
            continue
        out = (beta - coords[n]) * 3
        with_probe = [
            of(np.concatenate([coords, coords[n][None] + sign * out]), np.append(index, index[-1] + 9))[n, 6]
            for sign in (1, -1)
        ]
        right.append(with_probe[0] > with_probe[1])
    assert len(right) > 50 and np.mean(right) > 0.95


def test_the_position_of_the_chain_has_no_effect(chain):
    turn = Rotation.random(rng=1).as_matrix()
    moved = chain.ca_coords @ turn.T + [30.0, -500.0, 7.0]
    found, again = of(chain.ca_coords, chain.residue_index), of(moved, chain.residue_index)
    np.testing.assert_allclose(found, again, atol=2e-3)


def test_without_a_neighbour_along_the_chain_the_count_of_the_side_is_half(chain):
    index = chain.residue_index + np.where(np.arange(len(chain)) > 30, 5, 0)
    found = of(chain.ca_coords, index)
    for row in (0, 30, 31, len(chain) - 1):
        np.testing.assert_allclose(found[row, 6::2], found[row, 5::2], atol=1e-5)
