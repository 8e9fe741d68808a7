"""The graph of neighbours and its symmetries, and interfaces within chains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from protemb_train.corpus.corpus import Trace
from protemb_train.downstream.common.neighbour_graph import (
    EDGE,
    NEIGHBOURS,
    REACH,
    frames,
    joined,
    neighbour_graph,
    no_graph,
)
from protemb_train.downstream.sites.batches import ChainTensors, collate, whole
from protemb_train.downstream.sites.cuts import TOUCHING, CutRule, cut_chain, cut_corpus
from protemb_train.downstream.sites.graph import GraphHead, surroundings


def walk(length: int, seed: int) -> torch.Tensor:
    """Return a random chain with steps of 3.8 angstrom."""
    steps = np.random.default_rng(seed).normal(size=(length, 3))
    steps *= 3.8 / np.linalg.norm(steps, axis=1, keepdims=True)
    coords = steps.cumsum(axis=0)
    return torch.from_numpy(coords - coords.mean(axis=0)).float()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 60), st.integers(0, 999))
def test_the_graph_is_invariant_to_rotation_and_translation(length: int, seed: int) -> None:
    coords = walk(length, seed)
    turned = torch.from_numpy(Rotation.random(rng=seed).as_matrix()).float()
    here, there = neighbour_graph(coords), neighbour_graph(coords @ turned.T + torch.tensor([5.0, -9.0, 2.0]))
    torch.testing.assert_close(here.burial_LB, there.burial_LB, atol=1e-4, rtol=1e-4)
    # The order is not compared: two neighbours may be at the same distance.
    torch.testing.assert_close(here.present_LK.sum(dim=1), there.present_LK.sum(dim=1))
    edges = (graph.edge_LKE.float().sum(dim=1) for graph in (here, there))
    torch.testing.assert_close(*edges, atol=0.05, rtol=0)


def test_a_mirror_image_has_a_different_graph() -> None:
    coords = walk(40, 0)
    mirrored = neighbour_graph(coords * torch.tensor([1.0, 1.0, -1.0]))
    assert (mirrored.edge_LKE - neighbour_graph(coords).edge_LKE).abs().max() > 0.5


def test_frames_are_right_handed_and_orthonormal() -> None:
    axes = frames(walk(30, 1))[1:-1]
    eye = torch.eye(3).expand(28, 3, 3)
    torch.testing.assert_close(axes @ axes.transpose(1, 2), eye, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(axes), torch.ones(28))


@pytest.mark.parametrize("length", [1, 2, 5, NEIGHBOURS + 1, 80])
def test_neighbours_are_the_nearest_within_the_cutoff(length: int) -> None:
    coords = walk(length, length)
    graph = neighbour_graph(coords)
    distance = torch.cdist(coords, coords, compute_mode="donot_use_mm_for_euclid_dist")
    assert graph.edge_LKE.shape == (length, NEIGHBOURS, EDGE)
    for i in range(length):
        near = [j for j in distance[i].argsort().tolist() if j != i and distance[i, j] < REACH][:NEIGHBOURS]
        there = graph.present_LK[i].bool()
        assert set(graph.neighbour_LK[i, there].tolist()) == set(near)
        assert (graph.edge_LKE[i, ~there] == 0).all()


def test_a_residue_without_coordinates_has_no_neighbours() -> None:
    coords = walk(40, 3)
    coords[7] = torch.nan
    coords[20] = coords[21]  # two residues at the same position
    graph = neighbour_graph(coords)
    assert all(torch.isfinite(part.float()).all() for part in graph)
    assert graph.present_LK[7].sum() == 0
    assert not ((graph.neighbour_LK == 7) & graph.present_LK.bool()).any()


def test_graphs_of_a_batch_are_not_connected() -> None:
    first, second = neighbour_graph(walk(30, 4)), neighbour_graph(walk(12, 5))
    both = joined([first, second], [35, 20])
    assert len(both.neighbour_LK) == 55 and (both.present_LK[30:35] == 0).all()
    torch.testing.assert_close(both.neighbour_LK[35:47], second.neighbour_LK + 35)
    torch.testing.assert_close(both.edge_LKE[:30], first.edge_LKE)
    assert joined([no_graph(3)], [9]).edge_LKE.shape == (9, 0, EDGE)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 60), st.integers(0, 999))
def test_weights_of_surroundings_sum_to_one_without_missing_residues(length: int, seed: int) -> None:
    coords = walk(length, seed)
    missing = torch.rand(length, generator=torch.Generator().manual_seed(seed)) < 0.2
    coords[missing] = torch.nan
    weights = surroundings(coords)
    torch.testing.assert_close(weights.sum(dim=2)[:, ~missing], torch.ones(2, int((~missing).sum())))
    assert (weights[:, missing] == 0).all() and (weights[:, :, missing] == 0).all()
    seen = weights[1][~missing][:, ~missing]  # the largest scale is nearly the mean of the chain
    torch.testing.assert_close(seen, torch.full_like(seen, 1 / max(1, len(seen))), rtol=0.2, atol=0)


def labelled(length: int, seed: int) -> ChainTensors:
    coords, some = walk(length, seed), torch.rand(length, 21, generator=torch.Generator().manual_seed(seed))
    return ChainTensors(
        some[:, :20], some[:, :0], some[:, :6], some[0, :6], some[:, 0], coords, neighbour_graph(coords)
    )


def test_predictions_of_a_batch_are_those_of_its_chains() -> None:
    torch.manual_seed(0)
    head = GraphHead(0, 6, 6).eval()
    chains = [labelled(30, 1), labelled(44, 2), labelled(5, 3)]
    with torch.no_grad():
        batch = head(collate(chains, [torch.arange(len(c.label_L)) for c in chains]))
        alone = torch.cat([head(whole(chain)) for chain in chains])
    torch.testing.assert_close(batch, alone, atol=1e-5, rtol=1e-4)


# --- interfaces within chains ---------------------------------------------------------------------


def two_domains(linker: int = 0) -> Trace:
    """Two compact helical bundles next to each other, in one chain."""

    def bundle(shift: float) -> np.ndarray:
        parts = []
        for k in range(4):
            t = np.arange(16)
            turn = np.deg2rad(100) * t
            helix = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * t], axis=1)
            if k % 2:
                helix = helix[::-1]
            parts.append(helix + np.array([shift + 9.0 * (k // 2), 9.0 * (k % 2), 0.0]))
        return np.concatenate(parts)

    coords = np.concatenate([bundle(0.0), bundle(20.0)]).astype(np.float32)
    types = np.random.default_rng(0).integers(0, 20, len(coords))
    return Trace("two", coords, types, np.arange(len(coords)))


def test_a_chain_of_two_domains_is_cut_between_them() -> None:
    pieces = cut_chain(two_domains(), CutRule(pieces=1))
    # A linker of 4 residues is removed on each side.
    assert [piece.id for piece in pieces] in (["two:0-60"], ["two:68-128"])


def test_sites_are_residues_in_contact_with_the_removed_part(traces: list[Trace]) -> None:
    rule = CutRule(shortest=25, rest=20, packed=0.5, sites=(0.04, 0.7))
    pieces = [(trace, piece) for trace in traces for piece in cut_chain(trace, rule)]
    assert len(pieces) >= 4
    for trace, piece in pieces:
        a, b = (int(end) for end in piece.id.rsplit(":", 1)[1].split("-"))
        coords = trace.ca_coords.astype(np.float64)
        np.testing.assert_array_equal(piece.ca_coords, coords[a:b])
        assert a == 0 or b == len(coords)
        first, behind = a - rule.linker * (a > 0), b + rule.linker * (b < len(coords))
        for i in range(a, b):
            rest = [j for j in range(len(coords)) if not first <= j < behind and abs(i - j) > 4]
            touches = min(np.linalg.norm(coords[i] - coords[j]) for j in rest) < TOUCHING
            assert piece.label[i - a] == touches
        assert rule.shortest - rule.linker <= len(piece) <= rule.longest
        assert len(coords) - len(piece) >= rule.rest
        assert rule.sites[0] <= piece.label.mean() <= rule.sites[1]


def test_chains_that_are_short_or_without_contacts_are_not_cut() -> None:
    line = np.arange(200)[:, None] * np.array([3.8, 0.0, 0.0])
    types = np.zeros(200, dtype=np.int64)
    assert cut_chain(Trace("line", line.astype(np.float32), types, np.arange(200))) == []
    assert cut_chain(Trace("short", line[:50].astype(np.float32), types[:50], np.arange(50))) == []


def test_the_number_of_chains_per_cluster_is_limited(make_corpus) -> None:  # type: ignore[no-untyped-def]
    trace = two_domains()
    letters = "".join("ACDEFGHIKLMNPQRSTVWY"[t] for t in trace.residue_type)
    corpus = make_corpus([(letters, trace.ca_coords, 7)] * 5 + [(letters, trace.ca_coords, 8)])
    chains = [piece.id.split(":")[0] for piece in cut_corpus(corpus, CutRule(pieces=1), per_cluster=2)]
    assert len(chains) == len(set(chains)) == 3
    again = cut_corpus(corpus, CutRule(pieces=1), per_cluster=2)
    assert [piece.id.split(":")[0] for piece in again] == chains
