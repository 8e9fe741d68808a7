"""What the tests of the SDK share: one embedder on the CPU, and chains nobody crystallised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protemb_sdk import ALPHABET, Chain, Embedder, Embedding, read_chain


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder(device="cpu")


@pytest.fixture(scope="session")
def chain_1a8o() -> Chain:
    return read_chain(Path(__file__).resolve().parent.parent / "structures" / "1a8o.cif")


def walk(length: int, seed: int = 0) -> tuple[np.ndarray, str]:
    """Return a random walk of 3.8 angstrom steps and a random sequence."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(length, 3)) + np.array([0.6, 0, 0])
    steps *= 3.8 / np.linalg.norm(steps, axis=1, keepdims=True)
    return steps.cumsum(axis=0), "".join(rng.choice(list(ALPHABET), size=length))


@pytest.fixture(scope="session")
def random_walk() -> Callable[..., tuple[np.ndarray, str]]:
    return walk


@pytest.fixture
def make_embedding() -> Callable[..., Embedding]:
    """Return a maker of embeddings with random numbers in them, without a network."""

    def make(length: int = 5, name: str = "made", chain: str = "A", pair: bool = False) -> Embedding:
        rng = np.random.default_rng(length)
        coords, sequence = walk(length)
        structure = Chain(
            name=name,
            chain=chain,
            label_chain="Ä",
            ca_coords=coords,
            sequence=sequence,
            residue_index=np.arange(length) * 2,
            auth_seq=np.arange(length, dtype=np.int32) - 3,
            insertion_code=np.array(["", "A"] * length)[:length],
            label_seq=np.full(length, -1, dtype=np.int32),
            residue_name=np.array(["MSE", "LONGNAME"][: 1 + length % 2] * length)[:length],
            notes=("one", "two | três"),
            source=f"folder/{name}.cif",
        )
        return Embedding(
            structure=structure,
            protein=rng.normal(size=4).astype(np.float32),
            residue=rng.normal(size=(length, 4)).astype(np.float32),
            pair=np.moveaxis(rng.normal(size=(4, length, length)).astype(np.float32), 0, 2) if pair else None,
            provenance={"model": "none", "options": {"model": 1}},
        )

    return make
