"""Time of one embedding: the SDK compared with the same architecture in PyTorch; cold start; folders."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from protemb_sdk import Chain, Embedder, read_chain

from .conftest import STRUCTURES


@pytest.mark.benchmark(group="embedding, 247 residues, 1 thread")
def test_embed_protemb(benchmark, embedder, protease):
    embedder.embed(protease)
    benchmark.pedantic(embedder.embed, (protease,), rounds=7, iterations=1)


@pytest.mark.benchmark(group="embedding, 247 residues, 1 thread")
@pytest.mark.parametrize("preset", ["base", "paper"])
def test_embed_pytorch(benchmark, protease, preset):
    torch = pytest.importorskip("torch")
    from protemb_train.network.network import ScoreNetwork
    from protemb_train.network.presets import PRESETS

    torch.set_num_threads(1)
    network = ScoreNetwork(PRESETS[preset][0]).eval()
    coords = torch.from_numpy(protease.ca_coords.astype(np.float32))[None]
    types, index = (
        torch.from_numpy(protease.residue_type)[None],
        torch.from_numpy(protease.residue_index)[None],
    )

    def embed() -> object:
        with torch.inference_mode():
            return network.embed(coords, types, index, torch.tensor([0.1])).mean(dim=-1)

    embed()
    benchmark.pedantic(embed, rounds=5, iterations=1)


def ring(length: int) -> Chain:
    """Return a closed helix of any length, with protein-like distances."""
    turn = np.arange(length) * np.deg2rad(100.0)
    coords = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(length)], axis=1)
    return read_chain((coords, "A" * length))


@pytest.mark.benchmark(group="embedding against length, 1 thread")
@pytest.mark.parametrize("length", [64, 128, 256, 512])
@pytest.mark.parametrize("model", ["base", "base-int8", "base-1", "small", "small-int8"])
def test_embed_length(benchmark, model, length):
    embedder = Embedder(model, device="cpu", threads=1)
    chain = ring(length)
    embedder.embed(chain)
    benchmark.pedantic(embedder.embed, (chain,), rounds=5, iterations=1)


@pytest.mark.benchmark(group="reading 4zhl.cif.gz (2 chains)")
def test_read_structure(benchmark, embedder):
    benchmark(embedder.read, STRUCTURES / "4zhl.cif.gz")


@pytest.mark.benchmark(group="cold start, new process")
@pytest.mark.parametrize(
    "code",
    [
        "import numpy",
        "import protemb_sdk",
        f"from protemb_sdk import Embedder; Embedder(device='cpu').embed({str(STRUCTURES / '1a8o.cif')!r})",
    ],
    ids=["numpy", "import", "first-embedding"],
)
def test_cold_start(benchmark, code):
    subprocess.run(
        [sys.executable, "-c", code], check=True
    )  # fills the cache of Numba, which is normally there
    benchmark.pedantic(subprocess.run, ([sys.executable, "-c", code],), {"check": True}, rounds=5)


@pytest.mark.benchmark(group="folder of 11 files, 17 chains")
@pytest.mark.parametrize("workers", [1, 2])
def test_folder(benchmark, workers):
    embedder = Embedder(device="cpu", threads=workers)
    run = benchmark.pedantic(
        lambda: list(embedder.embed_many(STRUCTURES, on_error="skip", workers=workers)), rounds=3
    )
    assert len(run) > 10
