"""From the pair map to residue and protein embeddings, and windows of residues: the only Numba here.

Import this module inside the function that needs it: Numba takes a third of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from protemb_sdk._errors import EmbeddingError
from protemb_sdk._threads import usable_threads

# Reordering sums is what lets the compiler vectorise them; NaN must still come through.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "nsz", "contract"}}

# Below this a thread costs more than it saves.
_BYTES_PER_THREAD = 4 * 2**20


def _compiled(function: Callable[..., None]) -> Any:
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # nowhere to keep a cache: a read-only installation without a home directory
        return numba.njit(**_OPTIONS)(function)


@_compiled
def _row_means(
    first: int, past: int, runs_NL: NDArray[np.float32], rows: int, out_RC: NDArray[np.float32]
) -> None:
    length = runs_NL.shape[1]
    for n in range(first, past):
        total = 0.0
        for j in range(length):
            total += runs_NL[n, j]
        out_RC[n % rows, n // rows] = total / length


@_compiled
def _windows(
    first: int, past: int, residue_LC: NDArray[np.float32], before: int, out_LWC: NDArray[np.float32]
) -> None:
    length, width, channels = out_LWC.shape
    for i in range(first, past):
        for w in range(width):
            j = i + w - before
            if 0 <= j < length:
                for c in range(channels):
                    out_LWC[i, w, c] = residue_LC[j, c]
            else:
                for c in range(channels):
                    out_LWC[i, w, c] = 0.0


def _run(kernel: Any, count: int, size: int, threads: int | None, *arguments: Any) -> None:
    """Run a kernel over 0..count, split over threads where its `size` in bytes is worth it.

    Python's threads, not Numba's: the kernels hold no lock of the interpreter, and Numba's OpenMP layer
    would change the thread count of a torch in the same process and end a forked child.
    """
    parts = min(size // _BYTES_PER_THREAD, count)
    if parts > 1:  # asking the system for its threads costs more than a small map
        parts = min(parts, threads or usable_threads())
    if parts < 2:
        kernel(0, count, *arguments)
        return
    borders = [count * k // parts for k in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        jobs = [pool.submit(kernel, a, b, *arguments) for a, b in zip(borders[:-1], borders[1:], strict=True)]
    for job in jobs:
        job.result()


def mean_over_columns(pair_CRL: NDArray[np.float32], threads: int | None = None) -> NDArray[np.float32]:
    """Return residue embeddings: the mean of each row of the pair map (1D average pooling of the paper).

    One pass over the map in its own order. Every row is summed by one thread, so the result does not
    depend on the number of threads.

    Parameters
    ----------
    pair_CRL : ndarray, float32, shape (C, R, L)
        Pair map, or a strip of R of its rows, channels first as the graph returns it.
    threads : int, optional
        Threads to use at the most; by default as many as the process may use.

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
    _run(_row_means, len(runs), runs.nbytes, threads, runs, rows, out)
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
    threads : int, optional
        Threads to use at the most; by default as many as the process may use.

    Returns
    -------
    ndarray, float32, shape (L, size, C)
    """
    residue_LC = _residue_map(residue_LC)
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise EmbeddingError(f"a window holds a whole number of residues, at least 1, not {size!r}")
    length, channels = residue_LC.shape
    try:
        out = np.empty((length, int(size), channels), dtype=np.float32)
    except (MemoryError, ValueError) as error:
        raise EmbeddingError(f"windows of {size} residues do not fit into memory ({error})") from error
    residue_LC = np.ascontiguousarray(residue_LC, dtype=np.float32)
    _run(_windows, length, out.nbytes, threads, residue_LC, int(size) // 2, out)
    return out
