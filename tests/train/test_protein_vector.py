"""Pairs, the linear map of the protein vector, and fold retrieval."""

from __future__ import annotations

import numpy as np
import pytest

from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.network.protein import DISTANCES
from protemb_train.protein_vector import pairs as pairs_module
from protemb_train.protein_vector.alignment import tm_align
from protemb_train.protein_vector.features import chain_features, features_of
from protemb_train.protein_vector.linear_map import (
    LinearMap,
    MapError,
    fit_map,
    read_map,
    similar_chains,
    write_map,
)
from protemb_train.protein_vector.pairs import (
    Pairs,
    PairsError,
    make_pairs,
    nearest_pairs,
    pairs_of_relatives,
    read_pairs,
)
from protemb_train.protein_vector.retrieval import Task, TMScores, retrieved

LETTERS = "ACDEFGHIKLMNPQRSTVWYX"


def varied(trace: Trace, rng: np.random.Generator, noise: float, cut: int = 0) -> tuple[str, np.ndarray]:
    """A real chain with noise and without its first residues, which has the same fold."""
    letters = "".join(LETTERS[kind] for kind in trace.residue_type[cut:])
    coords = trace.ca_coords[cut:]
    return letters, coords + rng.normal(scale=noise, size=coords.shape)


@pytest.fixture
def folds(make_corpus, traces) -> Corpus:
    """Three folds of 40 to 300 residues, each with ten chains in ten clusters; most are training chains."""
    rng = np.random.default_rng(0)
    kinds = [t for t in traces if 40 <= len(t.residue_type) <= 300][:3]
    assert len(kinds) == 3
    chains = [
        (*varied(kind, rng, 0.4, cut), 100 * n + cut) for n, kind in enumerate(kinds) for cut in range(10)
    ]
    make_corpus(chains)
    return chains, kinds


@pytest.fixture
def training(folds, tmp_path) -> Corpus:
    return Corpus(tmp_path / "corpus.arrow", ["train"])


def test_tm_align_recognises_a_fold(traces):
    rng = np.random.default_rng(0)
    trace = traces[0]
    noisy = Trace("noisy", varied(trace, rng, 0.5)[1], trace.residue_type, trace.residue_index)
    assert min(tm_align(trace, noisy)) > 0.8
    assert max(tm_align(trace, traces[1])) < 0.6
    short, long = sorted(traces[:2], key=lambda t: len(t.residue_type))
    by_short, by_long = tm_align(short, long)
    assert by_short > by_long


def test_nearest_pairs_are_sorted_and_unique():
    vectors = np.array([[0.0, 0], [0.1, 0], [5, 0], [5.3, 0], [9, 9]])
    lengths = np.full(5, 100)
    found = nearest_pairs(vectors, lengths, 10)
    assert found[0].tolist() == [0, 1] and found[1].tolist() == [2, 3]
    assert len({tuple(pair) for pair in found.tolist()}) == len(found) == 10
    assert (found[:, 0] < found[:, 1]).all()
    lengths[1] = 30  # too short for a pair with any other
    assert not (nearest_pairs(vectors, lengths, 10) == 1).any()


def test_pairs_of_relatives_of_relatives():
    ids = np.array(list("abcde"))
    pair = np.array([[0, 1], [1, 2], [2, 3], [1, 4]])
    tm = np.array([[0.8, 0.8], [0.7, 0.7], [0.2, 0.2], [np.nan, np.nan]], dtype=np.float32)
    known = Pairs("", ids, pair, tm)
    assert known.alike().tolist() == [[0, 1], [1, 2]]
    assert pairs_of_relatives(known, 5).tolist() == [[0, 2]]


def test_pairs_find_the_folds_of_a_corpus_and_can_be_resumed(training, tmp_path, monkeypatch):
    """Pairs that are resumed after an interruption are equal to those of a complete run."""
    whole = make_pairs(training, tmp_path / "whole.npz", 40)
    assert len(whole.pair) == 40 and np.isfinite(whole.tm).all()
    names = [str(training.table["id"][int(p)]) for p in range(len(training))]
    assert set(whole.ids) <= set(names)
    assert (whole.score > 0.6).mean() > 0.9  # every chain has similar ones
    written = read_pairs(tmp_path / "whole.npz")
    assert np.array_equal(written.pair, whole.pair) and np.array_equal(written.tm, whole.tm)

    real, done = tm_align, []

    def stopping(one, other):
        if len(done) == 15:
            raise KeyboardInterrupt
        done.append(1)
        return real(one, other)

    monkeypatch.setattr(pairs_module, "tm_align", stopping)
    monkeypatch.setattr(pairs_module, "SAVED", 0.0)
    with pytest.raises(KeyboardInterrupt):
        make_pairs(training, tmp_path / "stopped.npz", 40)
    assert np.isfinite(read_pairs(tmp_path / "stopped.npz").tm[:, 0]).sum() == 15
    monkeypatch.setattr(pairs_module, "tm_align", real)
    again = make_pairs(training, tmp_path / "stopped.npz", 40)
    assert np.array_equal(again.pair, whole.pair) and np.allclose(again.tm, whole.tm)
    longer = make_pairs(training, tmp_path / "stopped.npz", 45)
    assert np.array_equal(longer.pair[:40], whole.pair) and len(longer.pair) == 45


def test_pairs_require_training_chains_of_one_corpus(training, folds, tmp_path, make_corpus):
    with pytest.raises(PairsError, match="training chains only"):
        make_pairs(Corpus(tmp_path / "corpus.arrow"), tmp_path / "pairs.npz", 5)
    make_pairs(training, tmp_path / "pairs.npz", 5)
    other = make_corpus(folds[0][:20])
    with pytest.raises(PairsError, match="another corpus"):
        make_pairs(Corpus(other.path, ["train"]), tmp_path / "pairs.npz", 5)


def test_the_map_weights_informative_directions():
    """Two directions separate folds; a third direction has a large variance within folds."""
    rng = np.random.default_rng(0)
    fold = np.repeat(np.arange(30), 12)
    centres = rng.normal(size=(30, 2))
    features = np.concatenate(
        [
            centres[fold] + 0.2 * rng.normal(size=(360, 2)),
            20 * rng.normal(size=(360, 1)),
            0.1 * rng.normal(size=(360, DISTANCES)),
        ],
        axis=1,
    )
    train, test = fold < 20, fold >= 20
    groups = [np.flatnonzero(train & (fold == k)) for k in range(20)]
    pairs = np.array([[g[0], g[k]] for g in groups for k in range(1, 12)])
    clusters = np.arange(len(fold))
    place = np.cumsum(train) - 1
    fitted = fit_map(features[train], clusters[train], place[pairs], 2, {"from": "test"})

    def first_hits(vectors):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosine = unit @ unit.T
        np.fill_diagonal(cosine, -2)
        return (fold[test][cosine.argmax(axis=1)] == fold[test]).mean()

    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    assert first_hits(fitted(features[test])) > first_hits(standard[test]) + 0.2
    assert fitted.record["from"] == "test" and fitted.record["pairs"] == len(pairs)
    assert abs(np.linalg.norm(fitted(features), axis=1) - 1).max() < 1e-5
    by_cluster = fit_map(features[train], fold[train], np.zeros((0, 2), dtype=np.int64), 2)
    assert first_hits(by_cluster(features[test])) > first_hits(standard[test]) + 0.2


def test_a_map_can_be_written_and_read(tmp_path):
    rng = np.random.default_rng(1)
    made = LinearMap(
        rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32), {"a": [1]}
    )
    write_map(made, tmp_path / "map.npz")
    back = read_map(tmp_path / "map.npz")
    x = rng.normal(size=(3, 9))
    assert np.array_equal(back(x), made(x)) and back.record == {"a": [1]}
    assert np.allclose(made.cut(2)(x)[:, 0] * made(x)[:, 1], made.cut(2)(x)[:, 1] * made(x)[:, 0], atol=1e-6)


def test_similar_chains_are_those_of_pairs_and_clusters(training, tmp_path):
    pairs = make_pairs(training, tmp_path / "pairs.npz", 12)
    alike = similar_chains(training, pairs)
    names = np.array(training.table["id"].to_pylist())[alike.positions]
    expected = {tuple(sorted(pairs.ids[pair])) for pair in pairs.alike()}
    assert {tuple(sorted(names[pair])) for pair in alike.pairs} == expected
    none = Pairs(pairs.corpus_sha256, pairs.ids, pairs.pair, np.zeros_like(pairs.tm))
    with pytest.raises(MapError, match="none of the pairs is similar"):
        similar_chains(training, none)
    with pytest.raises(MapError, match="another corpus"):
        similar_chains(training, Pairs("0", pairs.ids, pairs.pair, pairs.tm))
    with pytest.raises(MapError, match="too few"):
        fit_map(np.zeros((5, 60)), np.arange(5), np.array([[0, 1]]), 8)


def test_features_of_chains_are_cached(traces, tmp_path):
    from protemb_train.encoders.three_di import ThreeDiEncoder

    encoder = ThreeDiEncoder()
    found = features_of(encoder, traces[:2], tmp_path)
    assert found.shape == (2, 5 * 20 + DISTANCES)
    assert np.allclose(found[0], chain_features(encoder, traces[0]))
    assert np.array_equal(features_of(encoder, traces[:2], tmp_path), found)
    assert len(list(tmp_path.iterdir())) == 1
    assert np.allclose(found[:, -DISTANCES:], features_of(None, traces[:2]))


def test_retrieval_ranks_by_cosine_and_caches_tm_scores(traces, tmp_path, monkeypatch):
    from protemb_train.protein_vector import retrieval

    rng = np.random.default_rng(0)
    kinds = traces[:2]
    chains = [
        Trace(f"{n}-{k}", varied(kind, rng, 0.3)[1].astype(np.float32), kind.residue_type, kind.residue_index)
        for n, kind in enumerate(kinds)
        for k in range(12)
    ]
    task = Task(chains, np.array([0, 12]))
    vectors = np.eye(2)[np.repeat([0, 1], 12)] + 0.01 * rng.normal(size=(24, 2))
    tm = TMScores(task, tmp_path / "tm.npz")
    found = retrieved(task, vectors, tm)
    assert (found.first > 0.8).all() and (found.mean > 0.8).all()
    asked = []
    monkeypatch.setattr(retrieval, "tm_align", lambda one, other: asked.append(1) or tm_align(one, other))
    again = retrieved(task, 7 * vectors, TMScores(task, tmp_path / "tm.npz"))
    assert not asked and np.allclose(again.mean, found.mean, atol=1e-6)
    wrong = retrieved(task, vectors[::-1] * [1, -1], TMScores(task, tmp_path / "tm.npz"))
    assert asked and (wrong.best_mean >= np.maximum(wrong.mean, found.best_mean) - 1e-6).all()
