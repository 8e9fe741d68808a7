"""Pooling and windows: Numba compared with NumPy, on one pair map of 512 residues (64 MiB)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protemb_sdk import clip_windows, list_readouts, mean_over_columns
from protemb_sdk._base.threads import usable_threads
from protemb_sdk._model.readouts import CONTACT_SCALE, SHELLS, ReadoutPool

THREADS = [1, usable_threads()] if usable_threads() > 1 else [1]


def rate(benchmark: Any, moved: int) -> None:
    """Record the bytes read and written per second, from the median time."""
    benchmark.extra_info["GB/s"] = round(moved / benchmark.stats.stats.median / 1e9, 1)


@pytest.mark.benchmark(group="pooling, L = 512")
@pytest.mark.parametrize("threads", THREADS)
def test_pooling_protemb(benchmark, pair_map, threads):
    mean_over_columns(pair_map, threads)
    residue = benchmark(mean_over_columns, pair_map, threads)
    np.testing.assert_allclose(residue, pair_map.mean(axis=2).T, atol=1e-5)
    rate(benchmark, pair_map.nbytes)


@pytest.mark.benchmark(group="pooling, L = 512")
def test_pooling_numpy(benchmark, pair_map):
    benchmark(lambda: np.ascontiguousarray(pair_map.mean(axis=2).T))
    rate(benchmark, pair_map.nbytes)


@pytest.mark.benchmark(group="pooling, L = 512")
def test_pooling_in_the_graph(benchmark, pair_map):
    """The reduction of the exported graph alone, on a map that is already in ONNX Runtime."""
    from .machine import reduction

    run = reduction(pair_map)
    np.testing.assert_allclose(run(), pair_map.mean(axis=2), atol=1e-5)
    benchmark(run)
    rate(benchmark, pair_map.nbytes)


@pytest.mark.benchmark(group="pooling, L = 512")
def test_copy_of_the_map(benchmark, pair_map):
    """Peak rate of the machine; bytes read and bytes written are counted."""
    out = np.empty_like(pair_map)
    benchmark(np.copyto, out, pair_map)
    rate(benchmark, 2 * pair_map.nbytes)


@pytest.fixture(scope="module")
def trace() -> np.ndarray:
    """C-alpha coordinates of a compact chain of 512 residues, in angstrom."""
    return np.random.default_rng(0).normal(size=(512, 3)) * 12


def protemb_readouts(pair: np.ndarray, coords: np.ndarray, threads: int) -> dict[str, np.ndarray]:
    pool = ReadoutPool(tuple(list_readouts()), coords, len(pair), threads)
    pool.add(0, pair)
    return pool.result()


def numpy_readouts(pair: np.ndarray, coords: np.ndarray) -> dict[str, np.ndarray]:
    square = ((coords[:, None] - coords[None]) ** 2).sum(axis=-1)
    near = np.exp(-square / CONTACT_SCALE**2)
    weights = [np.ones_like(near), near]
    weights += [(low**2 <= square) & (square < high**2) for low, high in SHELLS.values()]
    weights_KLL = np.stack([w / np.maximum(w.sum(axis=1, keepdims=True), 1) for w in weights])
    rows = np.einsum("kij,cij->kic", weights_KLL.astype(np.float32), pair, optimize=True)
    columns = np.einsum("kij,cij->kjc", weights_KLL[:2].transpose(0, 2, 1).astype(np.float32), pair)
    names = ("mean", "contact", *SHELLS)
    found = dict(zip(names, rows, strict=True)) | {"max": pair.max(axis=2).T}
    return found | dict(zip(("column", "column-contact"), columns, strict=True))


@pytest.mark.benchmark(group="all readouts, L = 512")
@pytest.mark.parametrize("threads", THREADS)
def test_readouts_protemb(benchmark, pair_map, trace, threads):
    protemb_readouts(pair_map, trace, threads)
    found = benchmark(protemb_readouts, pair_map, trace, threads)
    for name, expected in numpy_readouts(pair_map, trace).items():
        np.testing.assert_allclose(found[name], expected, atol=1e-5)


@pytest.mark.benchmark(group="all readouts, L = 512")
def test_readouts_numpy(benchmark, pair_map, trace):
    benchmark.pedantic(numpy_readouts, (pair_map, trace), rounds=3)


def numpy_windows(residue_LC: np.ndarray, size: int) -> np.ndarray:
    before = size // 2
    padded = np.pad(residue_LC, ((before, size - 1 - before), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(padded, size, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1))


@pytest.fixture(scope="module")
def residue() -> np.ndarray:
    """Residue embeddings of a long chain: windows of 15 take 15 MiB."""
    return np.random.default_rng(0).standard_normal((4096, 64), dtype=np.float32)


WINDOWS = "windows of 15, L = 4096"


@pytest.mark.benchmark(group=WINDOWS)
def test_windows_protemb(benchmark, residue):
    clip_windows(residue, 15, 1)
    found = benchmark(clip_windows, residue, 15, 1)
    np.testing.assert_array_equal(found, numpy_windows(residue, 15))
    rate(benchmark, residue.nbytes + found.nbytes)


@pytest.mark.benchmark(group=WINDOWS)
def test_windows_numpy(benchmark, residue):
    found = benchmark(numpy_windows, residue, 15)
    rate(benchmark, residue.nbytes + found.nbytes)


@pytest.mark.benchmark(group=WINDOWS)
def test_copy_of_windows(benchmark, residue):
    """A copy into a new array of the size of the windows."""
    windows = clip_windows(residue, 15, 1)
    benchmark(windows.copy)
    rate(benchmark, 2 * windows.nbytes)
