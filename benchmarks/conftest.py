"""Benchmarks run with `pytest --benchmark-only` and are excluded from ordinary test runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protemb_sdk import Chain, Embedder, read_chain

HERE = Path(__file__).resolve().parent
STRUCTURES = HERE.parent / "tests" / "structures"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("benchmark_only"):
        return
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    if mine:
        config.hook.pytest_deselected(items=mine)
        items[:] = [item for item in items if not item.path.is_relative_to(HERE)]


@pytest.fixture(scope="session")
def protease() -> Chain:
    """A real chain of 247 residues (4ZHL, chain U)."""
    return read_chain(STRUCTURES / "4zhl.cif.gz", "U")


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The bundled model on one thread, for comparable rows."""
    return Embedder(device="cpu", threads=1)


@pytest.fixture(scope="session")
def pair_map() -> np.ndarray:
    """A pair map of 512 residues as returned by the graph, (C, L, L)."""
    return np.random.default_rng(0).standard_normal((64, 512, 512), dtype=np.float32)
