"""What a search is made of: alignments, superpositions and whitening, beside other programs."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import tmtools
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.covariance import LedoitWolf

from protemb_sdk import Chain
from protemb_sdk._base.superposition import tm_distance
from protemb_sdk._search.align import align
from protemb_sdk._search.superpose import refined_tm_scores, tm_scores
from protemb_sdk._search.whitening import fit_whitening

from .conftest import turned


def best_by_recursion(similarity: np.ndarray, opening: float, extension: float) -> float:
    """Smith and Waterman as they wrote it: every gap length is tried."""

    @cache
    def ends_at(i: int, j: int) -> float:
        if i < 0 or j < 0:
            return 0.0
        found = [0.0, ends_at(i - 1, j - 1) + float(similarity[i, j])]
        found += [ends_at(i - n, j) - opening - (n - 1) * extension for n in range(1, i + 1)]
        found += [ends_at(i, j - n) - opening - (n - 1) * extension for n in range(1, j + 1)]
        return max(found)

    rows, columns = similarity.shape
    return max(ends_at(i, j) for i in range(rows) for j in range(columns))


def worth(similarity: np.ndarray, pairs: np.ndarray, opening: float, extension: float) -> float:
    """What an alignment scores, counted from its pairs."""
    total = float(sum(similarity[i, j] for i, j in pairs))
    for gap in (np.diff(pairs, axis=0) - 1).ravel():
        total -= opening + (gap - 1) * extension if gap else 0.0
    return total


@settings(max_examples=200, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-1, 1, width=16)),
    st.sampled_from([(0.5, 0.5), (1.0, 0.125), (0.25, 0.0)]),
)
def test_the_alignment_is_the_best_there_is(similarity: np.ndarray, gaps: tuple[float, float]) -> None:
    score, pairs = align(similarity, *gaps)
    assert score == pytest.approx(best_by_recursion(similarity, *gaps), abs=1e-5)
    assert worth(similarity, pairs, *gaps) == pytest.approx(score, abs=1e-5)
    assert (np.diff(pairs, axis=0) > 0).all()
    assert (len(pairs) > 0) == (score > 0)


def test_tm_scores_are_those_of_the_program(chains: list[Chain]) -> None:
    query = chains[1]
    rng = np.random.default_rng(0)
    targets = [
        query.ca_coords + 3,
        turned(query.ca_coords, 1) + rng.normal(scale=1.0, size=query.ca_coords.shape),
        turned(query.ca_coords, 2)[10:60],
        chains[0].ca_coords,
    ]
    pairs, theirs = [], []
    for target in targets:
        sequence = "A" * len(target)
        found = tmtools.tm_align(query.ca_coords, target, query.sequence, sequence)
        i = j = -1
        aligned = []
        for one, other in zip(found.seqxA, found.seqyA, strict=True):
            i, j = i + (one != "-"), j + (other != "-")
            if one != "-" and other != "-":
                aligned.append((i, j))
        pairs.append(np.array(aligned))
        theirs.append(found.tm_norm_chain1)
    superposed = tm_scores(query.ca_coords, targets, pairs)
    ours = np.array([one.score for one in superposed])
    assert ours[0] == pytest.approx(1)
    for one, target, aligned in zip(superposed, targets, pairs, strict=True):
        placed = (target @ one.rotation + one.shift)[aligned[:, 1]]
        apart = np.linalg.norm(placed - query.ca_coords[aligned[:, 0]], axis=1)
        again = (1 / (1 + (apart / tm_distance(len(query))) ** 2)).sum() / len(query)
        assert again == pytest.approx(one.score)
    # The program's alignment holds pairs within reach only, and its search is finer.
    np.testing.assert_allclose(ours, theirs, rtol=0.02)
    assert (ours <= np.array(theirs) + 1e-4).all()


def test_a_poor_alignment_is_refined_to_that_of_the_program(chains: list[Chain]) -> None:
    query, other = chains[1], chains[0]
    rng = np.random.default_rng(1)
    disturbed = turned(query.ca_coords, 1) + rng.normal(scale=1.0, size=query.ca_coords.shape)
    targets = [disturbed, turned(query.ca_coords, 2)[10:60], other.ca_coords]
    theirs = [
        tmtools.tm_align(query.ca_coords, target, query.sequence, "A" * len(target)).tm_norm_chain1
        for target in targets
    ]
    few = [np.stack([np.arange(20, 34), np.arange(20, 34) - shift], axis=1) for shift in (0, 10)]
    pairs = [*few, np.stack([np.arange(5, 25)] * 2, axis=1)]
    before = [one.score for one in tm_scores(query.ca_coords, targets, pairs)]
    after = refined_tm_scores(query.ca_coords, targets, pairs)
    assert before[0] < 0.3 and before[1] < 0.3
    np.testing.assert_allclose(after[:2], theirs[:2], rtol=0.02)
    assert before[2] <= after[2] <= theirs[2] + 0.02


def test_a_mirror_image_is_not_the_fold(chains: list[Chain]) -> None:
    query = chains[1]
    same = np.arange(len(query))[:, None].repeat(2, axis=1)
    mirrored = query.ca_coords * [1, 1, -1]
    targets = [turned(query.ca_coords, 0), mirrored, mirrored]
    right, wrong, few = refined_tm_scores(query.ca_coords, targets, [same, same, same[:2]])
    assert right == pytest.approx(1) and wrong < 0.5 and few == 0


@pytest.mark.parametrize("count", [3, 20, 500])
def test_whitening_is_of_ledoit_and_wolf(count: int) -> None:
    rng = np.random.default_rng(count)
    sample = rng.normal(size=(count, 6)) @ rng.normal(size=(6, 6)) + 7
    whitening = fit_whitening(sample)
    np.testing.assert_allclose(whitening(sample).mean(axis=0), 0, atol=1e-4)
    covariance = LedoitWolf().fit(sample).covariance_
    matrix = whitening.matrix.astype(np.float64)
    np.testing.assert_allclose(matrix.T @ covariance @ matrix, np.eye(6), atol=1e-4)


def test_a_sample_without_spread_is_shifted_alone() -> None:
    whitening = fit_whitening(np.full((1, 4), 3.0))
    np.testing.assert_array_equal(whitening(np.array([[3.0, 3, 3, 4]])), [[0, 0, 0, 1]])
