"""From the pair map to residue and protein embeddings, and windows of residues: the only Numba here.

Import this module inside the function that needs it: Numba takes a third of a second.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from protemb_sdk._errors import EmbeddingError

# Reordering sums is what lets the compiler vectorise them; NaN must still come through.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "nsz", "contract"}}


class _State:
    """What a forked child must not inherit: a lock another thread may hold, and OpenMP's threads."""

    # Numba's portable threading layer must not be entered by two threads at once.
    one_at_a_time = threading.Lock()
    forked = False


def _after_fork() -> None:
    _State.one_at_a_time = threading.Lock()
    _State.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _compiled(function: Callable[..., None]) -> Any:
    try:
        return numba.njit(cache=True, parallel=True, **_OPTIONS)(function)
    except RuntimeError:  # nowhere to keep a cache: a read-only installation without a home directory
        return numba.njit(parallel=True, **_OPTIONS)(function)


@cache
def _serial(kernel: Any) -> Any:
    return numba.njit(**_OPTIONS)(kernel.py_func)


@_compiled
def _row_means(runs_NL: NDArray[np.float32], rows: int, out_RC: NDArray[np.float32]) -> None:
    count, length = runs_NL.shape
    for n in numba.prange(count):
        total = 0.0
        for j in range(length):
            total += runs_NL[n, j]
        out_RC[n % rows, n // rows] = total / length


@_compiled
def _windows(residue_LC: NDArray[np.float32], before: int, out_LWC: NDArray[np.float32]) -> None:
    length, width, channels = out_LWC.shape
    for i in numba.prange(length):
        for w in range(width):
            j = i + w - before
            if 0 <= j < length:
                for c in range(channels):
                    out_LWC[i, w, c] = residue_LC[j, c]
            else:
                for c in range(channels):
                    out_LWC[i, w, c] = 0.0


def _run(kernel: Any, threads: int | None, *arguments: Any) -> None:
    if _State.forked:  # GNU OpenMP ends a process that uses it on both sides of a fork
        _serial(kernel)(*arguments)
        return
    with _State.one_at_a_time:
        most = int(vars(numba.config)["NUMBA_NUM_THREADS"])
        before = numba.get_num_threads()
        numba.set_num_threads(most if threads is None else max(1, min(threads, most)))
        try:
            kernel(*arguments)
        finally:
            numba.set_num_threads(before)  # of the caller's own Numba code


def mean_over_columns(pair_CRL: NDArray[np.float32], threads: int | None = None) -> NDArray[np.float32]:
    """Return residue embeddings: the mean of each row of the pair map (1D average pooling of the paper).

    One pass over the map in its own order. Every row is summed by one thread, so the result does not
    depend on the number of threads.

    Parameters
    ----------
    pair_CRL : ndarray, float32, shape (C, R, L)
        Pair map, or a strip of R of its rows, channels first as the graph returns it.
    threads : int, optional
        Threads to use; all by default.

    Returns
    -------
    ndarray, float32, shape (R, C)
    """
    pair_CRL = np.asarray(pair_CRL)
    if pair_CRL.ndim != 3 or 0 in pair_CRL.shape:
        raise EmbeddingError(
            f"a pair map of shape (C, R, L) is needed, none of them zero, not {pair_CRL.shape}"
        )
    channels, rows, length = pair_CRL.shape
    runs = np.ascontiguousarray(pair_CRL, dtype=np.float32).reshape(channels * rows, length)
    out = np.empty((rows, channels), dtype=np.float32)
    _run(_row_means, threads, runs, rows, out)
    return out


def _residue_map(residue_LC: NDArray[np.float32]) -> NDArray[np.float32]:
    residue_LC = np.asarray(residue_LC)
    if residue_LC.ndim != 2 or 0 in residue_LC.shape:
        raise EmbeddingError(
            f"a residue embedding of shape (L, C), neither of them zero, is needed, not {residue_LC.shape}"
        )
    return residue_LC


def mean_over_rows(residue_LC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the protein embedding: the mean of the residue embeddings (2D average pooling of the paper).

    Returns
    -------
    ndarray, float32, shape (C,)
    """
    mean: NDArray[np.float64] = _residue_map(residue_LC).mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32)


def clip_windows(
    residue_LC: NDArray[np.float32], size: int, threads: int | None = None
) -> NDArray[np.float32]:
    """Return, for each residue, the embeddings of the residues in a window around it.

    Position w of the window is residue i - size // 2 + w; outside the chain there are zeros, as
    DeepPPISP has it. An even size therefore reaches one residue further to the left than to the right.

    Parameters
    ----------
    residue_LC : ndarray, float32, shape (L, C)
        Residue embeddings of one chain.
    size : int
        Residues in a window, at least 1; it may exceed the chain.

    Returns
    -------
    ndarray, float32, shape (L, size, C)
    """
    residue_LC = _residue_map(residue_LC)
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise EmbeddingError(f"a window holds a whole number of residues, at least 1, not {size!r}")
    length, channels = residue_LC.shape
    out = np.empty((length, int(size), channels), dtype=np.float32)
    _run(_windows, threads, np.ascontiguousarray(residue_LC, dtype=np.float32), int(size) // 2, out)
    return out
