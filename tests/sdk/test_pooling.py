"""Pooling and windows, compared with direct implementations."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import Embedding, EmbeddingError, clip_windows, mean_over_columns, mean_over_rows
from protemb_sdk._model import pooling as _pooling

sizes = st.integers(1, 20)


def random_array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plain_windows(residue_LC: np.ndarray, size: int) -> np.ndarray:
    out = np.zeros((len(residue_LC), size, residue_LC.shape[1]), dtype=np.float32)
    for i in range(len(residue_LC)):
        for w in range(size):
            if 0 <= i - size // 2 + w < len(residue_LC):
                out[i, w] = residue_LC[i - size // 2 + w]
    return out


@settings(deadline=None, max_examples=60)
@given(channels=sizes, rows=sizes, length=st.integers(1, 90), seed=st.integers(0, 99))
def test_mean_over_columns_is_the_mean_of_each_row(channels: int, rows: int, length: int, seed: int) -> None:
    pair = random_array(seed, channels, rows, length)
    expected = pair.astype(np.float64).mean(axis=2).T
    for view in (pair, np.asfortranarray(pair), random_like(pair)):
        found = mean_over_columns(view)
        assert found.dtype == np.float32 and found.shape == (rows, channels)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def random_like(array: np.ndarray) -> np.ndarray:
    """Return an equal array that is a strided view of a larger one."""
    large = np.full([2 * n for n in array.shape], np.nan, dtype=array.dtype)
    large[tuple(slice(None, None, 2) for _ in array.shape)] = array
    return large[tuple(slice(None, None, 2) for _ in array.shape)]


@settings(deadline=None, max_examples=40)
@given(length=st.integers(2, 60), seed=st.integers(0, 99), data=st.data())
def test_pooled_strips_have_the_same_bytes_as_the_whole_map(
    length: int, seed: int, data: st.DataObject
) -> None:
    pair = random_array(seed, 8, length, length)
    border = data.draw(st.integers(1, length - 1))
    parts = [mean_over_columns(pair[:, :border]), mean_over_columns(pair[:, border:])]
    assert np.concatenate(parts).tobytes() == mean_over_columns(pair).tobytes()


@settings(deadline=None, max_examples=60)
@given(length=st.integers(1, 30), channels=sizes, size=st.integers(1, 40), seed=st.integers(0, 99))
def test_windows_equal_a_direct_implementation(length: int, channels: int, size: int, seed: int) -> None:
    residue = random_array(seed, length, channels)
    expected = plain_windows(residue, size)
    for view in (residue, np.asfortranarray(residue), random_like(residue)):
        found = clip_windows(view, size)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_a_chain_of_one_residue_and_one_shorter_than_the_window() -> None:
    one = random_array(0, 1, 3)
    np.testing.assert_array_equal(clip_windows(one, 5)[0], [[0] * 3, [0] * 3, one[0], [0] * 3, [0] * 3])
    np.testing.assert_array_equal(mean_over_columns(one.T[:, None]), one)
    np.testing.assert_array_equal(mean_over_rows(one), one[0])
    assert clip_windows(random_array(1, 2, 3), np.int64(7)).shape == (2, 7, 3)


def test_an_even_window_has_one_more_residue_on_the_left() -> None:
    residue = np.arange(1, 6, dtype=np.float32)[:, None]
    assert clip_windows(residue, 4)[2, :, 0].tolist() == [1, 2, 3, 4]
    assert clip_windows(residue, 2)[0, :, 0].tolist() == [0, 1]


def test_windows_of_an_embedding_have_the_residue_in_the_middle(make_embedding) -> None:  # type: ignore[no-untyped-def]
    embedding: Embedding = make_embedding(6)
    windows = embedding.windows(3)
    assert windows.shape == (6, 3, 4)
    np.testing.assert_array_equal(windows[:, 1], embedding.residue)


@pytest.mark.parametrize("size", [0, -1, True, 3.0, "3", None])
def test_invalid_window_sizes_are_refused(size: object) -> None:
    with pytest.raises(EmbeddingError, match="whole number of residues, at least 1"):
        clip_windows(random_array(0, 4, 2), size)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3,), (0, 4), (4, 0), (2, 2, 2)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype=np.float32)
    for call in (mean_over_rows, lambda a: clip_windows(a, 3)):
        with pytest.raises(EmbeddingError, match=r"\(L, C\)"):
            call(array)
    with pytest.raises(EmbeddingError, match=r"\(C, R, L\)"):
        mean_over_columns(np.zeros((*shape, 0), dtype=np.float32))


def test_the_number_of_threads_does_not_change_the_bytes() -> None:
    pair, residue = random_array(0, 64, 150, 700), random_array(1, 500, 64)  # enough bytes to be split
    assert pair.nbytes > 6 * 4 * 2**20
    assert len({mean_over_columns(pair, threads).tobytes() for threads in (1, 2, 5, 99, None)}) == 1
    assert len({clip_windows(residue, 99, threads).tobytes() for threads in (1, 2, None)}) == 1


SHARE = 4 * 2**20  # bytes for each thread


@pytest.mark.parametrize(
    ("count", "size", "threads", "parts"),
    [
        (100, 2 * SHARE - 1, 8, 1), (100, 2 * SHARE, 8, 2), (100, 9 * SHARE, 8, 8), (100, 9 * SHARE, 1, 1),
        (3, 9 * SHARE, 8, 3), (1, 9 * SHARE, 8, 1), (100, 0, 8, 1), (100, 9 * SHARE, None, 5),
        (100, SHARE, None, 1), (100, 3 * SHARE, None, 3),
    ],
)  # fmt: skip
def test_large_arrays_are_split_between_threads(
    count: int, size: int, threads: int | None, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pooling, "usable_threads", lambda: 5)
    taken: list[tuple[int, int, str]] = []
    _pooling._run(lambda first, past, name: taken.append((first, past, name)), count, size, threads, "x")
    taken.sort()
    assert len(taken) == parts and {name for *_, name in taken} == {"x"}
    borders = [first for first, *_ in taken] + [count]
    assert [past for _, past, _ in taken] == borders[1:] and borders[0] == 0
    lengths = np.diff(borders)
    assert lengths.min() >= 1 and lengths.max() - lengths.min() <= 1


def test_errors_in_a_thread_are_raised() -> None:
    def fails(first: int, past: int) -> None:
        if first:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _pooling._run(fails, 10, 4 * SHARE, 4)


def test_kernels_are_cached_and_release_the_gil() -> None:
    for kernel in (_pooling._row_means, _pooling._weights, _pooling._read_out, _pooling._windows):
        assert kernel.targetoptions["nogil"] and kernel.targetoptions["fastmath"]
        assert "nnan" not in kernel.targetoptions["fastmath"]  # NaN must be propagated
        assert type(kernel._cache).__name__ == "FunctionCache"


def test_kernels_are_compiled_without_a_cache_if_none_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = numba.njit

    def njit(**options: object) -> object:
        asked.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(numba, "njit", njit)
    double = _pooling.compiled(lambda x: 2 * x)
    assert double(3) == 6 and [options.get("cache") for options in asked] == [True, None]
    assert asked[1]["nogil"]


def test_pooling_does_not_change_the_threads_of_torch() -> None:
    """Numba's OpenMP layer would change them, which would slow down a busy machine."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        mean_over_columns(random_array(0, 64, 150, 700))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_nan_affects_only_its_own_row() -> None:
    pair = random_array(0, 3, 4, 50)
    pair[1, 2, 7] = np.nan
    found = np.isnan(mean_over_columns(pair))
    assert found[2, 1] and found.sum() == 1
    residue = random_array(0, 4, 3)
    residue[2, 1] = np.nan
    assert np.isnan(mean_over_rows(residue)).tolist() == [False, True, False]


def test_pooling_can_be_called_from_several_threads() -> None:
    pairs = [random_array(seed, 16, 40, 40) for seed in range(8)]
    expected = [mean_over_columns(pair).tobytes() for pair in pairs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert [found.tobytes() for found in pool.map(mean_over_columns, pairs)] == expected


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this system")
def test_pooling_works_in_a_forked_process() -> None:
    """GNU OpenMP would end the process; DataLoader workers of PyTorch are forked processes."""
    code = (
        "import os, warnings, numpy as np; warnings.simplefilter('ignore');"
        "from protemb_sdk import clip_windows; x = np.ones((5, 4), np.float32);"
        "expected = clip_windows(x, 3); pid = os.fork();"
        "pid or os._exit(0 if (clip_windows(x, 3) == expected).all() else 1);"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_windows_larger_than_memory_give_a_clear_error() -> None:
    with pytest.raises(EmbeddingError, match="do not fit into memory"):
        clip_windows(np.ones((1000, 64), dtype=np.float32), 10**15)
