"""Time and peak memory of one embedding against the length of the chain, each in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import json, re, sys, time
from pathlib import Path
import numpy as np
from protemb_sdk import Embedder
length, limit, model = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def peak_mib():  # not ru_maxrss, which a process inherits from the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

turn = np.arange(length) * np.deg2rad(100.0)
coords = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(length)], axis=1)
embedder = Embedder(model, device="cpu", threads=1, memory_limit=limit * 2**20)
embedder.embed((coords[:30], "A" * 30))
before = peak_mib()
start = time.perf_counter()
embedder.embed((coords, "A" * length))
print(json.dumps([peak_mib() - before, time.perf_counter() - start]))
"""


def embedded(length: int, limit: int, model: str) -> tuple[float, float]:
    """Return the additional resident memory of one embedding, in MiB, and its time in seconds."""
    command = [sys.executable, "-c", CODE, str(length), str(limit), model]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    mib, seconds = json.loads(run.stdout)
    return mib, seconds


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.benchmark(group="a chain in a new process: first embedding of its length, peak memory")
@pytest.mark.parametrize("model", ["base", "base-int8", "small", "small-int8"])
@pytest.mark.parametrize(
    ("length", "limit"),
    [*((n, 2048) for n in (50, 100, 200, 400, 700, 1000, 2000, 4096, 5000)), (1000, 512), (4096, 512)],
)
def test_peak_memory(benchmark, length, limit, model):
    if limit == 512 and model != "base":
        pytest.skip("limits are tested with one model")
    mib, seconds = benchmark.pedantic(embedded, (length, limit, model), rounds=1)
    benchmark.extra_info |= {
        "limit MiB": limit,
        "peak MiB": round(mib),
        "s": float(f"{seconds:.3g}"),
        "Mpairs/s": round(length**2 / seconds / 1e6, 2),
    }
    states = 36 * length**2 / 2**20  # of residues, beside the map that the limit is about
    assert mib < max(limit, 64) * 1.25 + states
