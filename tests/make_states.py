"""Write tests/models/states.onnx and its graph for GPUs: a small random network of contract 2, for tests.

    python -m tests.make_states

Eight channels, two exchanges, and a linear map of the protein vector, so that all widths differ.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from protemb_export.pack import pack, pack_gpu
from protemb_sdk._model.models import find_model
from protemb_sdk._structure.reader import read_chains
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import BASE_1
from protemb_train.network.protein import DISTANCES, PARTS
from protemb_train.network.vectors import ChainVectors

from .conftest import TESTS, filled_at_random

CONFIG = replace(
    BASE_1,
    channels=8,
    bottleneck=4,
    dilations=(1, 2, 1),
    exchanges=(1, 2),
    single_channels=12,
    messages=(2, 1),
)
PROTEIN = 16
SIGMA = 1.0
STRUCTURES = ("1a8o.cif", "1orc.pdb", "3wup.json.gz")


def states_network() -> tuple[ScoreNetwork, ChainVectors]:
    """Return the network, and the contents of its embeddings."""

    def size(name: str) -> float:
        return 0.1 if name.endswith((".gain", ".bias")) or name.startswith("conv_out") else 0.05

    network = filled_at_random(CONFIG, size)
    matrix = torch.randn(PARTS * CONFIG.single_channels + DISTANCES, PROTEIN) / 5
    bias = torch.randn(PROTEIN) / 5
    return network, ChainVectors(CONFIG.channels, CONFIG.single_channels, matrix=matrix, bias=bias)


def write_states(out: Path) -> None:
    """Export the network, its score graph and its graph for GPUs."""
    network, vectors = states_network()
    chains = [read_chains(TESTS / "structures" / name).chains[0] for name in STRUCTURES]
    parity = pack(
        network, out, name=out.stem, sigma=SIGMA, record={"steps": 0}, licence="MIT", chains=chains,
        vectors=vectors,
    )  # fmt: skip
    print(out, parity.as_dict(), pack_gpu(find_model(out), chains, network).as_dict())


if __name__ == "__main__":
    write_states(TESTS / "models" / "states.onnx")
