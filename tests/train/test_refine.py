"""Langevin sampling: number of levels, step sizes, a Gaussian with known score, and real natives."""

from __future__ import annotations

import numpy as np
import pytest

from protemb_sdk import Embedder
from protemb_sdk._structure.chain import ALPHABET
from protemb_train.corpus.corpus import Trace
from protemb_train.experiments.refine import (
    STEPS,
    as_table,
    flow,
    langevin,
    level_ratio,
    levels_for,
    refine_native,
    rmsd,
    step_size,
)


@pytest.mark.parametrize(("length", "count"), [(64, 43), (128, 62), (256, 88)])
def test_longer_chains_need_more_levels(length: int, count: int) -> None:
    """Levels from 10 to 0.01 angstrom. 32 levels are enough for about 32 residues."""
    levels = levels_for(length, 10.0, 0.01)
    assert len(levels) == count and levels[0] == pytest.approx(10) and levels[-1] == pytest.approx(0.01)
    assert (levels[:-1] / levels[1:] <= level_ratio(length) * (1 + 1e-9)).all()
    assert len(levels_for(32, 10.0, 0.01)) <= 32
    with pytest.raises(ValueError, match="use a coarser start"):
        levels_for(length, 0.1, 0.2)


def test_the_steps_of_a_level_give_the_noise_of_that_level() -> None:
    """For data at one point the score is -x / sigma^2, and the variance converges to that of the level."""
    ratio = level_ratio(100)
    epsilon = step_size(ratio)
    variance = ratio**2  # of the previous level, relative to this level
    for _ in range(STEPS):
        variance = (1 - epsilon) ** 2 * variance + 2 * epsilon
    assert variance == pytest.approx(1, abs=0.2)


def test_flow_and_langevin_find_a_point_with_known_score() -> None:
    rng = np.random.default_rng(0)
    native = rng.normal(size=(40, 3)).cumsum(axis=0) * 2

    def score(x: np.ndarray, sigma: float) -> np.ndarray:
        return (native - x) / sigma**2

    start = native + 3.0 * rng.normal(size=native.shape)
    levels = levels_for(40, 3.0)
    assert np.abs(flow(start, score, levels) - native).max() < 1e-6
    assert np.abs(langevin(start, score, levels) - native).max() < 1e-6  # the last step removes all noise
    np.testing.assert_array_equal(langevin(start, score, levels, 1), langevin(start, score, levels, 1))


def test_refinement_reduces_the_rmsd_of_real_natives(traces: list[Trace]) -> None:
    embedder = Embedder("base", "cpu", threads=1)
    trace = traces[1]
    letters = "".join(ALPHABET[t] for t in trace.residue_type)

    def score(x: np.ndarray, sigma: float) -> np.ndarray:
        return embedder.denoising_gradient((x, letters, trace.residue_index), sigma=sigma).astype(np.float64)

    found = refine_native(trace.ca_coords.astype(np.float64), 1.0, score)
    # Sampling gives a structure with noise of that level, the flow approaches the native.
    assert found.before > 1.4 and found.flowed < 0.75 * found.before and found.sampled < 1.5 * found.before
    page = as_table([found])
    assert f"| 1 | 1 | {len(trace.ca_coords)} to {len(trace.ca_coords)} |" in page and "1 of 1" in page


def test_rmsd_is_computed_after_superposition() -> None:
    x = np.random.default_rng(0).normal(size=(10, 3))
    assert rmsd(x[:, [1, 2, 0]] + 5, x) == pytest.approx(0, abs=1e-9)
