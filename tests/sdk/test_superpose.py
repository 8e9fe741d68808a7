"""Superposition of chains: TM-scores are consistent with the alignment and agree with TM-align."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from protemb_sdk import Chain, read_chains
from protemb_sdk._base.superposition import superpose, tm_distance
from protemb_sdk._search.superpose import Superposition, aligned_within, coarse_tm_scores, superpose_chains

from .conftest import turned, walk

STRUCTURES = ("1orc.pdb", "1a8o.cif", "2beg.pdb.gz", "1lcd.cif.gz", "3jqh.cif", "4zhl.cif.gz")


def check_consistent(query: np.ndarray, target: np.ndarray, found: Superposition) -> None:
    """Check that all values follow from the superposition and the aligned pairs."""
    assert (np.diff(found.pairs, axis=0) > 0).all() and (found.pairs >= 0).all()
    assert (found.pairs.max(axis=0) < [len(query), len(target)]).all()
    placed = target @ found.rotation + found.shift
    apart = np.linalg.norm(placed[found.pairs[:, 1]] - query[found.pairs[:, 0]], axis=1)
    assert (apart <= aligned_within(min(len(query), len(target))) + 1e-6).all()
    for tm, length in ((found.tm_query, len(query)), (found.tm_target, len(target))):
        assert tm == pytest.approx((1 / (1 + (apart / tm_distance(length)) ** 2)).sum() / length, abs=1e-9)
        assert tm <= len(found.pairs) / length <= 1
    assert found.rmsd == pytest.approx(np.sqrt((apart**2).mean()))
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(found.rotation) == pytest.approx(1)


@pytest.fixture(scope="module")
def structures_of_tests(structures: Path) -> list[Chain]:
    return [chain for name in STRUCTURES for chain in read_chains(structures / name).chains]


def test_all_values_are_consistent_with_the_superposition(structures_of_tests: list[Chain]) -> None:
    every = structures_of_tests
    for n, one in enumerate(every):
        for other in every[n::3]:
            check_consistent(one.ca_coords, other.ca_coords, superpose_chains(one.ca_coords, other.ca_coords))


def test_identical_chains_have_a_score_of_one(structures_of_tests: list[Chain]) -> None:
    for n, chain in enumerate(structures_of_tests):
        found = superpose_chains(chain.ca_coords, turned(chain.ca_coords, n))
        assert (found.tm_query, found.tm_target) == pytest.approx((1, 1), abs=1e-9)
        assert found.rmsd == pytest.approx(0, abs=1e-4)
        assert (found.pairs == np.arange(len(chain))[:, None]).all()


def test_coarse_scores_order_chains_like_exact_ones(structures_of_tests: list[Chain]) -> None:
    every = [chain.ca_coords for chain in structures_of_tests]
    coarse, exact = [], []
    for n, one in enumerate(every):
        assert coarse_tm_scores(one, turned(one, n)) == pytest.approx((1, 1), abs=0.02)
        for other in every[n + 1 :: 2]:
            found, scores = superpose_chains(one, other), coarse_tm_scores(one, other)
            assert scores == pytest.approx(coarse_tm_scores(other, one)[::-1], abs=0.1)
            assert scores[0] * len(one) == pytest.approx(scores[1] * len(other))
            coarse.append(sum(scores) / 2)
            exact.append(found.tm_score)
    assert spearmanr(coarse, exact).statistic > 0.8


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9, 14, 15, 30, 59, 60])
def test_coarse_scores_of_short_chains(length: int) -> None:
    one, other = walk(length)[0], walk(80)[0]
    for pair in ((one, other), (other, one), (one, one)):
        scores = coarse_tm_scores(*pair)
        assert all(0 <= score <= 1 + 1e-9 for score in scores)
    assert coarse_tm_scores(one, one) == pytest.approx((1, 1) if length > 2 else (0, 0), abs=0.02)


def test_scores_are_invariant_to_rigid_motions(structures_of_tests: list[Chain]) -> None:
    for n, (one, other) in enumerate(zip(structures_of_tests, structures_of_tests[1:], strict=False)):
        before = superpose_chains(one.ca_coords, other.ca_coords)
        moved = turned(one.ca_coords, n), turned(other.ca_coords, n + 50)
        after = superpose_chains(*moved)
        check_consistent(*moved, after)
        # Rounding may decide between alignments of equal score.
        assert after.tm_query == pytest.approx(before.tm_query, abs=0.01)
        assert after.tm_target == pytest.approx(before.tm_target, abs=0.01)


def test_both_orders_of_two_chains_agree(structures_of_tests: list[Chain]) -> None:
    one, other = max(structures_of_tests, key=len), min(structures_of_tests, key=len)
    assert len(one) > len(other)
    there = superpose_chains(one.ca_coords, other.ca_coords)
    back = superpose_chains(other.ca_coords, one.ca_coords)
    assert (there.tm_query, there.tm_target) == (back.tm_target, back.tm_query)
    np.testing.assert_array_equal(there.pairs, back.pairs[:, ::-1])
    # The score is divided by the length of the chain.
    assert there.tm_query < there.tm_target
    check_consistent(one.ca_coords, other.ca_coords, there)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 100), st.booleans())
def test_chains_of_any_length_are_consistent(rows: int, columns: int, seed: int, flat: bool) -> None:
    query, target = walk(rows, seed)[0], walk(columns, seed + 1)[0]
    if flat:  # a line, whose superposition is not unique
        target = np.arange(columns)[:, None] * np.array([3.8, 0, 0])
    found = superpose_chains(query, target)
    if min(rows, columns) < 3:
        assert len(found.pairs) == 0 and found.tm_query == found.tm_target == 0 and np.isnan(found.rmsd)
    else:
        check_consistent(query, target, found)


def test_a_fragment_is_found_in_a_longer_chain(chains: list[Chain]) -> None:
    whole = chains[1].ca_coords
    piece = turned(whole[12:50], 3) + np.random.default_rng(0).normal(scale=0.2, size=(38, 3))
    found = superpose_chains(piece, whole)
    assert found.tm_query > 0.9 and found.tm_target < 0.6
    assert (found.pairs[:, 1] - found.pairs[:, 0] == 12).mean() > 0.9


def test_a_mirror_image_has_a_low_score(chains: list[Chain]) -> None:
    query = chains[1].ca_coords
    assert superpose_chains(query, query * [1, 1, -1]).tm_query < 0.5


def test_a_given_alignment_is_used_as_a_start(
    random_walk: Callable[..., tuple[np.ndarray, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last residues of one chain match the first of the other. Fragments in steps of eight miss them."""
    one, other = walk(64, 5)[0], walk(64, 6)[0]
    other[:18] = turned(one[43:61], 2)
    seed = np.stack([np.arange(43, 61), np.arange(18)], axis=1)
    alone, seeded = superpose_chains(one, other), superpose_chains(one, other, [seed])
    assert seeded.tm_query >= alone.tm_query - 1e-9
    assert seeded.tm_query >= 18 / 64 - 0.01


def test_place_equals_superposition_by_singular_values() -> None:
    from protemb_sdk._search.fit import place

    rng = np.random.default_rng(0)
    for count in (3, 10, 200):
        fixed, moved = rng.normal(scale=10, size=(2, 3, count))
        use = rng.uniform(size=count)
        placement = np.empty((3, 4))
        place(fixed, moved, use, placement, np.empty(100))
        rotation, shift = superpose(fixed.T[None], moved.T[None], use[None])
        np.testing.assert_allclose(placement[:, :3].T, rotation[0], atol=1e-9)
        np.testing.assert_allclose(placement[:, 3], shift[0], atol=1e-8)


def test_alignment_by_distance_is_optimal() -> None:
    from protemb_sdk._search.align import align
    from protemb_sdk._search.realign import fill, trace

    rng = np.random.default_rng(1)
    for rows, columns in ((1, 1), (1, 7), (9, 4), (30, 41), (64, 64)):
        fixed, moved = (
            np.ascontiguousarray(walk(n, seed)[0].T, dtype=np.float32)
            for n, seed in ((rows, int(rng.integers(99))), (columns, int(rng.integers(99))))
        )
        apart = ((fixed[:, :, None] - moved[:, None]) ** 2).sum(axis=0)
        scale, table = np.float32(1 / 25), np.zeros((rows + columns + 1, rows + 1), dtype=np.float32)
        for opening in (0.6, 0.0):
            backward = np.ascontiguousarray(moved[:, ::-1])
            gaps = np.empty((5, rows + 1), dtype=np.float32)
            pairs = np.empty((min(rows, columns), 2), dtype=np.int64)
            fill(fixed, backward, scale, np.float32(opening), table, gaps)
            count = trace(fixed, backward, scale, np.float32(opening), table, pairs)
            similarity = (1 / (1 + apart * scale)).astype(np.float32)
            score, _ = align(similarity, opening, 0.0)
            assert table.max() == pytest.approx(score, rel=1e-5)
            own = similarity[tuple(pairs[:count].T)].sum()
            gaps_opened = (np.diff(pairs[:count], axis=0) > 1).sum()
            assert own - opening * gaps_opened == pytest.approx(score, rel=1e-4)


# --- TM-align -------------------------------------------------------------------------------------


def agreement(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return our TM-scores and those of TM-align, both normalisations, shape (pairs, 2) each."""
    tmtools = pytest.importorskip("tmtools", reason="needs TM-align: pip install tmtools")
    ours, theirs = [], []
    for one, other in pairs:
        found = superpose_chains(one, other)
        ours.append((found.tm_query, found.tm_target))
        known = tmtools.tm_align(one, other, "A" * len(one), "A" * len(other))
        theirs.append((known.tm_norm_chain1, known.tm_norm_chain2))
    return np.array(ours), np.array(theirs)


def test_scores_of_models_of_one_chain_agree_with_tm_align(structures_of_tests: list[Chain]) -> None:
    """Chains and copies of them, with noise and without the first fifth."""
    rng = np.random.default_rng(0)
    pairs = []
    for n, chain in enumerate(chain for chain in structures_of_tests if len(chain) >= 40):
        other = turned(chain.ca_coords, n) + rng.normal(scale=1.0, size=chain.ca_coords.shape)
        pairs.append((chain.ca_coords, other[len(other) // 5 :]))
    ours, theirs = agreement(pairs)
    assert (np.abs(ours - theirs) <= 0.02).mean() >= 0.9


def test_scores_of_real_chains_agree_with_tm_align(shared_data: Path) -> None:
    """Pairs of chains of one 30% cluster, mostly of the same fold; no identical chains."""
    corpus = np.load(shared_data / "native" / "corpus.npz")
    offsets, clusters = corpus["offsets"], corpus["cluster30"]
    lengths = np.diff(offsets)
    usable = np.flatnonzero((lengths >= 40) & (lengths <= 250) & (corpus["cluster50"] >= 0))
    rng = np.random.default_rng(0)
    chosen: dict[int, list[int]] = {}
    for n in rng.permutation(usable):
        mates = chosen.setdefault(int(clusters[n]), [])
        if len(mates) < 2 and all(corpus["cluster50"][n] != corpus["cluster50"][m] for m in mates):
            mates.append(int(n))
    both = [mates for mates in chosen.values() if len(mates) == 2][:40]
    assert len(both) == 40
    ca = corpus["dxyz_milliA"]

    def coords(n: int) -> np.ndarray:
        return np.cumsum(ca[offsets[n] : offsets[n + 1]].astype(np.int64), axis=0) / 1000

    ours, theirs = agreement([(coords(one), coords(other)) for one, other in both])
    assert (np.abs(ours - theirs) <= 0.02).mean() >= 0.9
    assert abs(np.median(ours - theirs)) <= 0.002
