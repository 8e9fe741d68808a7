"""The plan of strips covers every row once and keeps to its budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protemb_sdk._strips import MAPS_AT_ONCE, plan_rows


@given(
    length=st.integers(1, 20_000),
    channels=st.integers(1, 128),
    radius=st.integers(0, 300),
    memory_limit=st.integers(-1, 2**34),
)
def test_strips_cover_all_rows_once_within_the_budget(
    length: int, channels: int, radius: int, memory_limit: int
) -> None:
    strips = plan_rows(length, channels, radius, memory_limit)
    assert strips[0][0] == 0 and strips[-1][1] == length
    assert all(past == first for (_, past), (first, _) in zip(strips, strips[1:], strict=False))
    rows = [past - first for first, past in strips]
    assert min(rows) >= 1 and max(rows) - min(rows) <= 1
    row_bytes = 4 * channels * length * MAPS_AT_ONCE
    if len(strips) > 1:
        assert row_bytes * length > memory_limit
        # With its halo a strip fits, unless that would make it thinner than the halo.
        assert (max(rows) + 2 * radius) * row_bytes <= memory_limit or max(rows) <= max(radius, 1)
    else:
        assert row_bytes * length <= memory_limit or length <= max(2 * radius, 1)


def test_what_fits_is_not_cut() -> None:
    assert plan_rows(100, 64, 60, 2**31) == [(0, 100)]
    assert plan_rows(100, 64, 60, 0) == [(0, 100)]
    assert plan_rows(200, 64, 60, 0) == [(0, 50), (50, 100), (100, 150), (150, 200)]
