"""GraphQA and our head: edges, the published layer, invariance, batches, missing labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn
from torch_geometric.data import Batch

from protemb_sdk._structure.chain import ALPHABET
from protemb_train.corpus.corpus import Trace
from protemb_train.downstream.quality.baselines import baselines, neighbour_counts
from protemb_train.downstream.quality.compatibility import (
    FEATURES,
    PROFILE,
    CompatibilityHead,
    compatibility_features,
    whole_features,
)
from protemb_train.downstream.quality.decoys import Decoy, labelled
from protemb_train.downstream.quality.graphqa import (
    GraphQA,
    GraphQAConfig,
    Layer,
    quality_loss,
    ranking_loss,
    widths,
)
from protemb_train.downstream.quality.graphs import edges_of, graph_of, with_embeddings
from protemb_train.downstream.quality.head import QualityHead
from protemb_train.downstream.quality.naming import tensors_of
from protemb_train.downstream.quality.perturb import regularised
from protemb_train.downstream.quality.rows import examples
from protemb_train.downstream.quality.vectors import Scales, Vectors


def decoy_of(trace: Trace, noise: float = 0.5, seed: int = 0, name: str = "d") -> Decoy:
    native = trace.ca_coords.astype(float)
    model = native + noise * np.random.default_rng(seed).normal(size=native.shape)
    letters = "".join(ALPHABET[t] for t in trace.residue_type)
    return labelled(name, trace.id, "made up", "train", letters, model, native)


def random_vectors(decoys: list[Decoy], width: int, channels: int = 3) -> Vectors:
    rng = np.random.default_rng(1)
    counts = [edges_of(d.ca_coords).shape[1] for d in decoys]
    nodes, edges = np.cumsum([0, *map(len, decoys)]), np.cumsum([0, *counts])
    node = rng.normal(size=(nodes[-1], width)).astype(np.float16)
    return Vectors(node, rng.normal(size=(edges[-1], channels)).astype(np.float16), nodes, edges)


@pytest.fixture(scope="module")
def decoys(traces: list[Trace]) -> list[Decoy]:
    return [decoy_of(t, name=str(k)) for k, t in enumerate(traces[:3])]


def test_edges_are_neighbours_and_steps_along_the_chain(decoys: list[Decoy]) -> None:
    for decoy in decoys:
        sender, receiver = edges_of(decoy.ca_coords)
        found = set(zip(sender.tolist(), receiver.tolist(), strict=True))
        apart = np.linalg.norm(decoy.ca_coords[:, None] - decoy.ca_coords, axis=2)
        length = len(decoy)
        wanted = {
            (i, j)
            for i in range(length)
            for j in range(length)
            if i != j and (apart[i, j] < 12 or abs(i - j) <= 5)
        }
        assert found == wanted and len(found) == len(sender)
    crowd = np.zeros((200, 3))
    assert np.bincount(edges_of(crowd)[1]).max() <= 128 + 10


def test_widths_are_those_of_the_published_checkpoint() -> None:
    # Facts of the released configuration: 224 to 16, 192 to 64 and 512 to 32 in three layers.
    assert widths(224, 16, 3) == [224, 128, 32, 16]
    assert widths(192, 64, 3) == [192, 128, 128, 64]
    assert widths(512, 32, 3) == [512, 256, 64, 32]


def test_a_layer_equals_the_published_layer() -> None:
    torch.manual_seed(0)
    layer = Layer([7, 5], [6, 4], [3, 2], dropout=0.0).eval()
    x, edge = torch.randn(9, 6), torch.randn(30, 7)
    whole, batch = torch.randn(2, 3), torch.tensor([0] * 4 + [1] * 5)
    index = torch.cat([torch.randint(0, 4, (2, 12)), torch.randint(4, 9, (2, 18))], dim=1)
    found_x, found_edge, found_whole = layer(x, edge, index, whole, batch)

    def side_by_side(parts: list[nn.Linear | None]) -> nn.Linear:
        weight = torch.cat([p.weight for p in parts if p is not None], dim=1)
        joined = nn.Linear(weight.shape[1], weight.shape[0])
        joined.weight.data, joined.bias.data = (
            weight.detach(),
            next(p.bias.detach() for p in parts if p is not None and p.bias is not None),
        )
        return joined

    edge_fn = side_by_side([layer.node_edge, layer.edge_edge, layer.whole_edge])
    seen = torch.cat([x[index[0]], edge, whole[batch[index[0]]]], dim=1)
    expected_edge = layer.after_edge(edge_fn(seen))
    torch.testing.assert_close(found_edge, expected_edge)
    mean = torch.stack(
        [
            expected_edge[index[1] == n].mean(dim=0) if (index[1] == n).any() else torch.zeros(5)
            for n in range(9)
        ]
    )
    node_fn = side_by_side([layer.to_node, layer.whole_node])
    expected_x = layer.after_node(node_fn(torch.cat([x, mean, whole[batch]], dim=1)))
    torch.testing.assert_close(found_x, expected_x)
    pooled = [
        torch.cat([expected_edge[batch[index[0]] == g].mean(0), expected_x[batch == g].mean(0), whole[g]])
        for g in (0, 1)
    ]
    torch.testing.assert_close(found_whole, layer.after_whole(layer.to_whole(torch.stack(pooled))))


def networks() -> list[tuple[str, nn.Module]]:
    torch.manual_seed(0)
    config = GraphQAConfig(node_embedding=3, edge_embedding=3, in_global=64)
    return [
        ("graphqa", GraphQA(config).eval()),
        ("head", QualityHead(6).eval()),
        ("compatibility", CompatibilityHead(PROFILE + 3).eval()),
    ]


WIDTHS = (3, 6, PROFILE + 3)
KINDS = pytest.mark.parametrize("k", [0, 1, 2], ids=["graphqa", "head", "compatibility"])


@KINDS
def test_a_batch_equals_single_models(k: int, decoys: list[Decoy]) -> None:
    kind, network = networks()[k]
    vectors = random_vectors(decoys, WIDTHS[k])
    made = examples(kind, decoys, vectors, Scales.of(vectors, range(len(decoys))))
    residues, models = network(Batch.from_data_list([made.graph(n) for n in range(len(decoys))]))
    alone = [network(Batch.from_data_list([made.graph(n)])) for n in range(len(decoys))]
    torch.testing.assert_close(residues, torch.cat([r for r, _ in alone]), rtol=0, atol=1e-5)
    torch.testing.assert_close(models, torch.cat([m for _, m in alone]), rtol=0, atol=1e-5)
    assert residues.shape == (sum(map(len, decoys)), 2) and models.shape == (len(decoys), 5)
    assert ((models > 0) & (models < 1)).all() and ((residues > 0) & (residues < 1)).all()


@KINDS
def test_scores_are_invariant_to_rotation_and_translation(k: int, decoys: list[Decoy]) -> None:

    kind, network = networks()[k]
    turn = Rotation.from_euler("xyz", [0.3, 1.1, 2.0])
    moved = [replace(d, ca_coords=turn.apply(d.ca_coords) + 1000.0) for d in decoys]
    vectors = random_vectors(decoys, WIDTHS[k])
    scales = Scales.of(vectors, range(len(decoys)))
    for n in range(len(decoys)):
        sides = [
            network(Batch.from_data_list([examples(kind, side, vectors, scales).graph(n)]))
            for side in (decoys, moved)
        ]
        for a, b in zip(*sides, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-3 if kind == "head" else 1e-4)


def test_compatibility_grows_when_types_fit(decoys: list[Decoy]) -> None:
    """Log probability of the own type minus the mean of all, and its averages over neighbours."""
    decoy = decoys[0]
    types, coords = tensors_of(decoy)
    length = len(decoy)
    rng = np.random.default_rng(0)
    log = torch.from_numpy(rng.normal(size=(length, 20)).astype(np.float32)).log_softmax(dim=1)
    own = log[torch.arange(length), types]
    found = compatibility_features(torch.cat([log, own[:, None]], dim=1), types, coords)
    assert found.shape == (length, FEATURES) and torch.isfinite(found).all()
    gain = own - log.mean(dim=1)
    torch.testing.assert_close(found[:, 0], gain)
    apart = np.linalg.norm(decoy.ca_coords[:, None] - decoy.ca_coords, axis=2)
    weight = torch.from_numpy(1 / (1 + np.exp((apart - 12) / 0.5))).float()
    torch.testing.assert_close(found[:, 11], weight @ gain / weight.sum(dim=1), rtol=1e-4, atol=1e-4)
    # A window along the chain is at the end of the averages.
    torch.testing.assert_close(found[4, 21], gain[:9].mean(), rtol=1e-4, atol=1e-4)
    counts = (apart < 14).sum(axis=1)
    assert np.corrcoef(found[:, 28], counts)[0, 1] > 0.98
    better = compatibility_features(torch.cat([log, log.amax(dim=1, keepdim=True)], dim=1), types, coords)
    assert (better[:, 0] >= found[:, 0]).all() and (better[:, 11] > found[:, 11]).all()


def test_compatibility_of_chains_of_one_to_four_residues_is_finite() -> None:
    for length in range(1, 5):
        coords = torch.arange(3.0 * length).reshape(length, 3)
        found = compatibility_features(torch.zeros(length, PROFILE), torch.arange(length), coords)
        assert torch.isfinite(found).all() and torch.isfinite(whole_features(coords)).all()


def test_ranking_loss_is_that_of_pairs_within_targets() -> None:
    rng = np.random.default_rng(0)
    predicted, true = (torch.from_numpy(rng.random((6, 2))) for _ in range(2))
    true[1, 0] = torch.nan
    target = torch.tensor([0, 0, 1, 1, 1, 2])
    error = (predicted - true).numpy()
    expected = 0.0
    for column in range(2):
        pairs = [(0, 1), (2, 3), (2, 4), (3, 4)]
        squares = [(error[i, column] - error[j, column]) ** 2 for i, j in pairs]
        expected += float(np.nanmean(squares))
    assert float(ranking_loss(predicted, true, target)) == pytest.approx(expected)
    assert float(ranking_loss(predicted + 1, true, target)) == pytest.approx(expected)
    assert float(ranking_loss(predicted[:1], true[:1], target[:1])) == 0


def test_pair_embeddings_match_their_edges(decoys: list[Decoy]) -> None:
    """The pair (receiver, sender) of an edge, in the order of the edges."""
    decoy = decoys[0]
    length = len(decoy)
    pair = np.arange(length * length, dtype=np.float32).reshape(length, length, 1)
    sender, receiver = edges_of(decoy.ca_coords)
    graph = with_embeddings(graph_of(decoy), torch.zeros(length, 0), torch.from_numpy(pair[receiver, sender]))
    index = graph.edge_index
    assert (graph.edge_embedding[:, 0] == index[1] * length + index[0]).all()


def test_missing_labels_are_ignored() -> None:
    nan = float("nan")
    true, predicted = torch.tensor([[1.0, nan], [0.0, 0.5]]), torch.tensor([[0.5, 0.9], [0.0, 0.0]])
    models = torch.tensor([[0.5, 0.5]]), torch.tensor([[nan, nan]])
    # Columns: (0.25 + 0) / 2, and 0.25 / 1; models unknown.
    assert float(quality_loss((predicted, true), models, 20.0)) == pytest.approx(20 * (0.125 + 0.25))
    predicted.requires_grad_()
    quality_loss((predicted, true), models).backward()
    assert torch.isfinite(predicted.grad).all() and predicted.grad[0, 1] == 0  # type: ignore[index]


def test_features_of_residues_are_used_where_they_are_given(decoys: list[Decoy]) -> None:

    torch.manual_seed(0)
    network = GraphQA(GraphQAConfig(features=33, in_global=64)).eval()
    with_features = [
        replace(d, features=np.random.default_rng(s).random((len(d), 33)).astype(np.float32))
        for s, d in enumerate([decoys[0], decoys[0]])
    ]
    a, b = (network(Batch.from_data_list([graph_of(d)]))[0] for d in with_features)
    assert (a - b).abs().max() > 1e-4


def test_baselines_prefer_the_native_to_a_noisy_or_stretched_copy(decoys: list[Decoy]) -> None:
    noise = 2 * np.random.default_rng(0).normal(size=decoys[0].ca_coords.shape)
    native = replace(decoys[0], ca_coords=regularised(decoys[0].ca_coords))
    noisy = replace(native, ca_coords=native.ca_coords + noise)
    stretched = replace(native, ca_coords=native.ca_coords * np.array([4.0, 1.0, 1.0]))
    found = baselines([native, noisy, stretched])
    regular = found["C-alpha steps near 3.8 angstrom"]
    assert regular[0] > 0.9 > 0.3 > regular[1]
    assert found["compactness"][0] > found["compactness"][2]
    assert found["neighbours per residue"][0] > found["neighbours per residue"][2]
    apart = np.linalg.norm(native.ca_coords[:, None] - native.ca_coords, axis=2)
    np.testing.assert_array_equal(neighbour_counts(native), (apart <= 10).sum(axis=1) - 1)
