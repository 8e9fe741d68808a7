"""From the pair map to residue and protein embeddings, and windows of residues: the only Numba here.

Readouts other than the mean are named and put together in `_readouts`.

Import this module inside the function that needs it: Numba takes a third of a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError
from protemb_sdk._base.threads import usable_threads
from protemb_sdk._model.residue import check_residue

# Reordering sums is what lets the compiler vectorise them; NaN must still come through.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"reassoc", "nsz", "contract"},
    "error_model": "numpy",  # a check for zero in each division would keep loops from being vectorised
}

# Below this a thread costs more than it saves.
_BYTES_PER_THREAD = 4 * 2**20


# exp of minus this is 1e-30: what weighs less is nothing, and would only be slow (subnormal).
_NOTHING = 69.0


def compiled(function: Callable[..., Any]) -> Any:
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # nowhere to keep a cache: a read-only installation without a home directory
        return numba.njit(**_OPTIONS)(function)


@compiled
def _total(run: NDArray[np.float32]) -> float:
    total = 0.0
    for j in range(len(run)):
        total += run[j]
    return float(total)


@compiled
def _largest(run: NDArray[np.float32]) -> float:
    # Four at a time: comparisons keep their order, and each waits for the one before. NaN is not seen.
    a, b, c, d = run[0], run[0], run[0], run[0]
    whole = len(run) // 4 * 4
    for j in range(0, whole, 4):
        a = run[j] if run[j] > a else a
        b = run[j + 1] if run[j + 1] > b else b
        c = run[j + 2] if run[j + 2] > c else c
        d = run[j + 3] if run[j + 3] > d else d
    for j in range(whole, len(run)):
        a = run[j] if run[j] > a else a
    return float(max(max(a, b), max(c, d)))


@compiled
def _row_means(
    first: int, past: int, runs_NL: NDArray[np.float32], rows: int, out_RC: NDArray[np.float32]
) -> None:
    length = runs_NL.shape[1]
    for n in range(first, past):
        out_RC[n % rows, n // rows] = _total(runs_NL[n]) / length


@compiled
def _weights(
    first: int,
    past: int,
    ca_coords_L3: NDArray[np.float64],
    top: int,
    scale: float,
    shells_S2: NDArray[np.float64],
    out_RKL: NDArray[np.float32],
    totals_R: NDArray[np.float64],
) -> None:
    length, shells = len(ca_coords_L3), len(shells_S2)
    contact = out_RKL.shape[1] - shells  # 1 where the contact weights come before the shells
    squares = np.empty(length)
    for r in range(first, past):
        i = top + r
        for j in range(length):
            x = ca_coords_L3[i, 0] - ca_coords_L3[j, 0]
            y = ca_coords_L3[i, 1] - ca_coords_L3[j, 1]
            z = ca_coords_L3[i, 2] - ca_coords_L3[j, 2]
            squares[j] = x * x + y * y + z * z
        if contact:
            total = 0.0
            for j in range(length):
                power = squares[j] / (scale * scale)
                weight = math.exp(-power) if power < _NOTHING else 0.0
                out_RKL[r, 0, j] = weight
                total += weight
            totals_R[r] = total  # at least 1: j = i is in it
            for j in range(length):
                out_RKL[r, 0, j] /= total
        for s in range(shells):
            low, high = shells_S2[s, 0] ** 2, shells_S2[s, 1] ** 2
            count = 0
            for j in range(length):
                count += low <= squares[j] < high
            share = 1.0 / max(count, 1)
            for j in range(length):
                out_RKL[r, contact + s, j] = share if low <= squares[j] < high else 0.0


@compiled
def _read_out(
    first: int,
    past: int,
    pair_CRL: NDArray[np.float32],
    weights_RKL: NDArray[np.float32],
    totals_R: NDArray[np.float64],
    mean_RC: NDArray[np.float32],
    weighted_KRC: NDArray[np.float32],
    largest_RC: NDArray[np.float32],
    column_CL: NDArray[np.float64],
    contact_CL: NDArray[np.float64],
) -> None:
    # One row's weights stay in the cache while all channels go by; each run comes from memory once.
    _, rows, length = pair_CRL.shape
    for r in range(rows):
        for c in range(first, past):
            run = pair_CRL[c, r]
            total = _total(run)
            mean_RC[r, c] = total / length
            for k in range(len(weighted_KRC)):
                total_k = 0.0
                for j in range(length):
                    total_k += weights_RKL[r, k, j] * run[j]
                weighted_KRC[k, r, c] = total_k
            if largest_RC.size:
                largest_RC[r, c] = _largest(run)
                if total != total:
                    for j in range(length):
                        if run[j] != run[j]:
                            largest_RC[r, c] = run[j]
            if column_CL.size:
                for j in range(length):
                    column_CL[c, j] += run[j]
            if contact_CL.size:
                for j in range(length):
                    contact_CL[c, j] += totals_R[r] * weights_RKL[r, 0, j] * run[j]


@compiled
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

    Raises
    ------
    EmbeddingError
        If `pair_CRL` has not three axes, or is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from protemb_sdk import mean_over_columns
    >>> pair = np.array([[[1, 3], [5, 7]]], dtype=np.float32)  # one channel, two residues
    >>> mean_over_columns(pair).tolist()
    [[2.0], [6.0]]
    """
    pair_CRL = np.asarray(pair_CRL)
    _check_map(pair_CRL)
    channels, rows, length = pair_CRL.shape
    runs = np.ascontiguousarray(pair_CRL, dtype=np.float32).reshape(channels * rows, length)
    out = np.empty((rows, channels), dtype=np.float32)
    _run(_row_means, len(runs), runs.nbytes, threads, runs, rows, out)
    return out


def _check_map(pair_CRL: NDArray[np.float32]) -> None:
    if pair_CRL.ndim != 3 or 0 in pair_CRL.shape:
        raise EmbeddingError(
            f"a pair map of shape (C, R, L) is needed, none of them zero, not {pair_CRL.shape}"
        )


def neighbour_weights(
    ca_coords: NDArray[np.float64],
    first: int,
    past: int,
    scale: float | None,
    shells: Sequence[tuple[float, float]],
    threads: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return weights of the columns in rows first to past, by the distance between C-alphas.

    Parameters
    ----------
    ca_coords : ndarray, float64, shape (L, 3)
        C-alpha coordinates in angstrom.
    first, past : int
        First row and the one past the last, R in all.
    scale : float or None
        In angstrom; the first weights are then exp(-(d / scale)^2), without it there are none.
    shells : sequence of (low, high)
        In angstrom; further weights are equal where low <= d < high and zero elsewhere.
    threads : int, optional
        Threads to use at the most.

    Returns
    -------
    weights : ndarray, float32, shape (R, K, L)
        Each sums to 1 over the columns, or to 0 where a shell is empty.
    totals : ndarray, float64, shape (R,)
        Sums of exp(-(d / scale)^2) by which the first weights were divided.
    """
    rows, kinds = past - first, len(shells) + (scale is not None)
    weights = np.empty((rows, kinds, len(ca_coords)), dtype=np.float32)
    totals = np.zeros(rows)
    if kinds:
        coords = np.ascontiguousarray(ca_coords, dtype=np.float64)
        bounds = np.array(shells, dtype=np.float64).reshape(-1, 2)
        # exp takes as long as reading some hundred bytes.
        size = weights.nbytes * 8
        _run(_weights, rows, size, threads, coords, first, scale or 1.0, bounds, weights, totals)
    return weights, totals


def read_out(
    pair_CRL: NDArray[np.float32],
    weights_RKL: NDArray[np.float32],
    totals_R: NDArray[np.float64],
    mean_RC: NDArray[np.float32],
    weighted_KRC: NDArray[np.float32],
    largest_RC: NDArray[np.float32],
    column_CL: NDArray[np.float64],
    contact_CL: NDArray[np.float64],
    threads: int | None = None,
) -> None:
    """Read every readout out of a strip of the pair map in one pass, into arrays of the caller.

    Threads take channels, so every number is summed by one thread and in one order.

    Parameters
    ----------
    pair_CRL : ndarray, float32, shape (C, R, L)
        Strip of the pair map.
    weights_RKL, totals_R
        Of `neighbour_weights`.
    mean_RC, weighted_KRC, largest_RC : ndarray, float32
        Written: mean over columns, weighted sums, largest value; the last is left out if it is empty.
    column_CL, contact_CL : ndarray, float64
        Added to: sums over rows, plain and weighted by exp(-(d / scale)^2); left out if empty.
    threads : int, optional
        Threads to use at the most.
    """
    _check_map(pair_CRL)
    pair_CRL = np.ascontiguousarray(pair_CRL, dtype=np.float32)
    size = pair_CRL.nbytes * (1 + len(weighted_KRC))
    arrays = (weights_RKL, totals_R, mean_RC, weighted_KRC, largest_RC, column_CL, contact_CL)
    _run(_read_out, len(pair_CRL), size, threads, pair_CRL, *arrays)


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

    Raises
    ------
    EmbeddingError
        If `residue_LC` has not two axes, or `size` is not 1 or more, or too large for the memory.

    Examples
    --------
    >>> import numpy as np
    >>> from protemb_sdk import clip_windows
    >>> residue = np.array([[1], [2], [3]], dtype=np.float32)
    >>> clip_windows(residue, 3)[:, :, 0].tolist()
    [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 0.0]]
    """
    residue_LC = check_residue(residue_LC)
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
