"""The plan of strips covers every row once and keeps the memory limit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protemb_sdk import Embedder
from protemb_sdk._model.strips import MAPS_AT_ONCE, plan_rows


@given(
    length=st.integers(1, 20_000),
    channels=st.integers(1, 128),
    radius=st.integers(0, 300),
    memory_limit=st.integers(-1, 2**34),
)
def test_strips_cover_all_rows_once_within_the_memory_limit(
    length: int, channels: int, radius: int, memory_limit: int
) -> None:
    strips, keep = plan_rows(length, channels, radius, memory_limit)
    assert strips[0][0] == 0 and strips[-1][1] == length
    assert all(past == first for (_, past), (first, _) in zip(strips, strips[1:], strict=False))
    assert min(past - first for first, past in strips) >= 1
    rows = [min(past + radius, length) - max(first - radius, 0) for first, past in strips]
    assert max(rows) - min(rows) <= 1 and rows == sorted(rows, reverse=True)
    row_bytes = 4 * max(channels, 64) * length * MAPS_AT_ONCE
    if len(strips) > 1:
        assert row_bytes * length > memory_limit and not keep
        # A strip fits with its halo, unless it would be thinner than the halo.
        assert max(rows) * row_bytes <= memory_limit or max(rows) <= max(radius, 1) + 2 * radius
    else:
        assert row_bytes * length <= memory_limit or length <= max(3 * radius, 1)
        assert keep == (row_bytes * length <= memory_limit / 4)


def test_maps_that_fit_are_not_divided() -> None:
    assert plan_rows(100, 64, 60, 2**31).rows == [(0, 100)]
    assert plan_rows(100, 64, 60, 0).rows == [(0, 100)]
    assert plan_rows(200, 64, 60, 0).rows == [(0, 100), (100, 200)]
    assert plan_rows(303, 64, 60, 0).rows == [(0, 106), (106, 152), (152, 198), (198, 303)]


@pytest.mark.slow
def test_strips_of_a_long_chain_equal_the_whole_map() -> None:
    """3,000 residues; the whole map needs 13 GB."""
    coords = compact_walk(3000)
    whole, strips = (
        Embedder(device="cpu", memory_limit=limit).embed((coords, "G" * 3000)) for limit in (2**34, 2**31)
    )
    scale = np.abs(whole.residue).max()
    assert np.abs(strips.residue - whole.residue).max() <= 1e-5 * scale
    assert np.abs(strips.protein - whole.protein).max() <= 1e-5 * scale


def compact_walk(length: int) -> np.ndarray:
    steps = np.random.default_rng(0).normal(size=(length, 3))
    return np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0) * 0.5


HELD = """
import re, sys
from pathlib import Path
import numpy as np
from protemb_sdk import Embedder

def held_mib():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

coords = np.cumsum(np.random.default_rng(0).normal(size=(420, 3)) * 2.2, axis=0)
embedder = Embedder(device="cpu", threads=1, memory_limit=int(sys.argv[1]) * 2**20)
embedder.embed((coords[:30], "A" * 30))
before = held_mib()
embedder.embed((coords, "A" * 420))
print(held_mib() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize(("limit_mib", "least", "most"), [(2048, 4, 8), (600, 0, 3.5)])
def test_memory_is_kept_up_to_a_quarter_of_the_limit(limit_mib: int, least: float, most: float) -> None:
    # The plan needs 259 MiB, about five maps. All memory except the region with the result is freed.
    run = subprocess.run(
        [sys.executable, "-c", HELD, str(limit_mib)], check=True, capture_output=True, text=True
    )
    one_map = 64 * 420 * 420 * 4 / 2**20
    assert least <= float(run.stdout) / one_map <= most
