"""Long chains: how many rows of the pair map are computed at a time under a memory budget."""

from __future__ import annotations

# Measured peak of a session, in pair maps of C float32 channels (benchmarks/test_memory.py): features and
# residual stream at once.
MAPS_AT_ONCE = 4


def plan_rows(length: int, channels: int, radius: int, memory_limit: int) -> list[tuple[int, int]]:
    """Return (first, past) of consecutive strips that cover all rows.

    A strip is computed together with a halo of `radius` rows on either side, which the graph adds and
    cuts off itself, so results do not depend on the plan.

    Parameters
    ----------
    length : int
        Residues of the chain.
    channels, radius : int
        Of the graph.
    memory_limit : int
        Bytes that a run may take. Strips are not planned thinner than the halo is wide, so for very
        long chains more may be needed.

    Returns
    -------
    list of tuple of int
        Of nearly equal thickness, in order.
    """
    bytes_per_row = 4 * channels * length * MAPS_AT_ONCE
    # A strip of a chain shorter than two halos would need all the other rows too.
    if bytes_per_row * length <= memory_limit or length <= 2 * radius:
        return [(0, length)]
    rows = max(memory_limit // bytes_per_row - 2 * radius, radius, 1)
    count = -(-length // rows)
    borders = [length * k // count for k in range(count + 1)]
    return list(zip(borders[:-1], borders[1:], strict=True))
