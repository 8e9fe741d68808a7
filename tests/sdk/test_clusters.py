"""Clustering of a store by mean similarity: each chain is in one cluster; invalid input is an error."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import Embedder, EmbeddingError, OutputError
from protemb_sdk._search import clusters
from protemb_sdk._search.clusters import cluster_vectors, compared_vectors
from protemb_sdk._store.fill import embed_into_store
from protemb_sdk.search import cluster_store

FILES = ("1a8o.cif", "1a8o.pdb", "1orc.pdb", "2beg.pdb.gz", "3jqh.cif")


@pytest.fixture(scope="module")
def store(structures: Path, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clusters") / "store"
    embed_into_store(embedder, [structures / name for name in FILES], path)
    return path


def unit_vectors(count: int, width: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 25), st.integers(2, 5), st.integers(0, 1000), st.floats(-1, 1))
def test_mean_similarity_between_clusters_is_below_the_threshold(
    count: int, width: int, seed: int, similarity: float
) -> None:
    vectors = unit_vectors(count, width, seed)
    number = cluster_vectors(vectors, similarity)
    sizes = np.bincount(number)
    assert len(number) == count and (sizes > 0).all() and (np.diff(sizes) <= 0).all()
    product = vectors @ vectors.T
    for one in range(len(sizes)):
        for other in range(one):
            assert product[np.ix_(number == one, number == other)].mean() < similarity + 1e-6


def test_extreme_thresholds_give_one_cluster_or_one_per_chain() -> None:
    vectors = unit_vectors(8, 6, 0)
    assert (cluster_vectors(vectors, -1) == 0).all()
    assert len(set(cluster_vectors(vectors, 1).tolist())) == 8
    assert cluster_vectors(np.repeat(vectors, 2, axis=0), 1).tolist() == np.repeat(np.arange(8), 2).tolist()


def test_every_chain_of_a_store_is_in_one_cluster(store: Path, embedder: Embedder, structures: Path) -> None:
    members = cluster_store(store, 0.5)
    embeddings = list(embedder.embed_many([structures / name for name in FILES]))
    assert sorted((m.source, m.chain_id) for m in members) == sorted(
        (e.chain.source, e.chain.chain_id) for e in embeddings
    )
    vectors = compared_vectors(np.stack([e.protein for e in embeddings]), embedder.provenance["contract"])
    place = {(e.chain.source, e.chain.chain_id): n for n, e in enumerate(embeddings)}
    for number in {m.cluster for m in members}:
        own = [m for m in members if m.cluster == number]
        assert [m.size for m in own] == [len(own)] * len(own)
        assert [m.representative for m in own] == [True] + [False] * (len(own) - 1)
        rows = vectors[[place[m.source, m.chain_id] for m in own]]
        np.testing.assert_allclose([m.similarity for m in own], rows @ rows[0], atol=2e-3)
        sums = rows @ rows.sum(axis=0)
        assert sums[0] == pytest.approx(sums.max(), abs=2e-3)
    one, other = (next(m for m in members if m.source.endswith(name)) for name in FILES[:2])
    assert one.cluster == other.cluster  # the same chain in two formats


def test_large_or_missing_stores_and_invalid_thresholds_are_refused(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutputError, match="is not a store"):
        cluster_store(tmp_path / "nowhere")
    with pytest.raises(EmbeddingError, match="from -1 to 1"):
        cluster_store(store, 1.5)
    with monkeypatch.context() as patch:
        patch.setattr(clusters, "LARGEST", 3)
        with pytest.raises(OutputError, match="has more than 3 chains"):
            cluster_store(store)
    monkeypatch.setitem(sys.modules, "scipy.cluster.hierarchy", None)
    with pytest.raises(EmbeddingError, match=r"pip install '\.\[search\]'"):
        cluster_store(store)


def test_cluster_from_the_command_line(protemb: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    table = tmp_path / "clusters.csv"
    made = protemb("cluster", store, "-o", table, "--similarity", 0.5)
    members = cluster_store(store, 0.5)
    last = " ".join(made.out.split())
    assert made.status == 0 and f"{len(members)} chains in {members[-1].cluster} clusters" in last
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["cluster"], row["id"], row["representative"]) for row in rows] == [
        (str(m.cluster), m.id, str(int(m.representative))) for m in members
    ]
    refused = protemb("cluster", store, "-o", tmp_path / "clusters.txt")
    assert refused.status == 1 and ".csv" in refused.errors[0]
