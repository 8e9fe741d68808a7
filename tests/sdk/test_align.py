"""Alignment of residue embeddings and whitening, compared with reference implementations."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.covariance import LedoitWolf

from protemb_sdk._search.align import align
from protemb_sdk._search.whitening import fit_whitening


def best_by_recursion(similarity: np.ndarray, opening: float, extension: float) -> float:
    """Return the Smith-Waterman score by the original recursion, which tries every gap length."""

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
    """Return the score of an alignment, computed from its pairs."""
    total = float(sum(similarity[i, j] for i, j in pairs))
    for gap in (np.diff(pairs, axis=0) - 1).ravel():
        total -= opening + (gap - 1) * extension if gap else 0.0
    return total


@settings(max_examples=200, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-1, 1, width=16)),
    st.sampled_from([(0.5, 0.5), (1.0, 0.125), (0.25, 0.0)]),
)
def test_alignment_has_the_optimal_score(similarity: np.ndarray, gaps: tuple[float, float]) -> None:
    score, pairs = align(similarity, *gaps)
    assert score == pytest.approx(best_by_recursion(similarity, *gaps), abs=1e-5)
    assert worth(similarity, pairs, *gaps) == pytest.approx(score, abs=1e-5)
    assert (np.diff(pairs, axis=0) > 0).all()
    assert (len(pairs) > 0) == (score > 0)


@pytest.mark.parametrize("count", [3, 20, 500])
def test_whitening_uses_the_ledoit_wolf_covariance(count: int) -> None:
    rng = np.random.default_rng(count)
    sample = rng.normal(size=(count, 6)) @ rng.normal(size=(6, 6)) + 7
    whitening = fit_whitening(sample)
    np.testing.assert_allclose(whitening(sample).mean(axis=0), 0, atol=1e-4)
    covariance = LedoitWolf().fit(sample).covariance_
    matrix = whitening.matrix.astype(np.float64)
    np.testing.assert_allclose(matrix.T @ covariance @ matrix, np.eye(6), atol=1e-4)


def test_whitening_of_a_sample_without_variance_only_subtracts_the_mean() -> None:
    whitening = fit_whitening(np.full((1, 4), 3.0))
    np.testing.assert_array_equal(whitening(np.array([[3.0, 3, 3, 4]])), [[0, 0, 0, 1]])
