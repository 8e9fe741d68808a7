"""Peak memory of one embedding against the length of the chain, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import re, sys
from pathlib import Path
import numpy as np
from protemb_sdk import Embedder
length, limit = int(sys.argv[1]), int(sys.argv[2])

def peak_kib():  # not ru_maxrss, which a process inherits from the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

turn = np.arange(length) * np.deg2rad(100.0)
coords = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(length)], axis=1)
embedder = Embedder(device="cpu", threads=2, memory_limit=limit * 2**20)
embedder.embed((coords[:30], "A" * 30))
before = peak_kib()
embedder.embed((coords, "A" * length))
print((peak_kib() - before) / 1024)
"""


def peak(length: int, limit: int) -> float:
    """Return what one embedding adds to the resident memory, in MiB."""
    run = subprocess.run(
        [sys.executable, "-c", CODE, str(length), str(limit)], check=True, capture_output=True, text=True
    )
    return float(run.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.benchmark(group="peak memory (see extra_info)")
@pytest.mark.parametrize(("length", "limit"), [(256, 2048), (512, 2048), (1024, 512), (1024, 2048)])
def test_peak_memory(benchmark, length, limit):
    found = benchmark.pedantic(peak, (length, limit), rounds=1)
    one_map = 64 * length * length * 4 / 2**20
    benchmark.extra_info |= {"peak_mib": round(found), "maps": round(found / one_map, 2), "limit_mib": limit}
    assert found < max(limit, 64) * 1.25
