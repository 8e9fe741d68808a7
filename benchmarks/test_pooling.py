"""Pooling and windows: Numba beside NumPy, on one pair map of 512 residues (64 MiB)."""

from __future__ import annotations

import numpy as np
import pytest

from protemb_sdk import clip_windows, mean_over_columns
from protemb_sdk._threads import usable_threads

THREADS = [1, usable_threads()] if usable_threads() > 1 else [1]


@pytest.mark.benchmark(group="pooling, L = 512")
@pytest.mark.parametrize("threads", THREADS)
def test_pooling_protemb(benchmark, pair_map, threads):
    mean_over_columns(pair_map, threads)
    residue = benchmark(mean_over_columns, pair_map, threads)
    np.testing.assert_allclose(residue, pair_map.mean(axis=2).T, atol=1e-5)


@pytest.mark.benchmark(group="pooling, L = 512")
def test_pooling_numpy(benchmark, pair_map):
    benchmark(lambda: np.ascontiguousarray(pair_map.mean(axis=2).T))


@pytest.mark.benchmark(group="pooling, L = 512")
def test_reading_the_map_once(benchmark, pair_map):
    """The floor: nothing that looks at every entry can be faster than a sum in memory order."""
    flat = pair_map.reshape(-1)
    benchmark(flat.sum)


def numpy_windows(residue_LC: np.ndarray, size: int) -> np.ndarray:
    before = size // 2
    padded = np.pad(residue_LC, ((before, size - 1 - before), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(padded, size, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1))


@pytest.mark.benchmark(group="windows of 7, L = 512")
def test_windows_protemb(benchmark):
    residue = np.random.default_rng(0).standard_normal((512, 64), dtype=np.float32)
    clip_windows(residue, 7, 1)
    found = benchmark(clip_windows, residue, 7, 1)
    np.testing.assert_array_equal(found, numpy_windows(residue, 7))


@pytest.mark.benchmark(group="windows of 7, L = 512")
def test_windows_numpy(benchmark):
    residue = np.random.default_rng(0).standard_normal((512, 64), dtype=np.float32)
    benchmark(numpy_windows, residue, 7)
