"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from protemb_train.network.network import ScoreNetwork
    from protemb_train.network.presets import NetworkConfig

TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def structures() -> Path:
    """The folder of small real structure files; its README says what each is for."""
    return TESTS / "structures"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The large data beside the repository, or a skipped test."""
    named = os.environ.get("PROTEMB_SHARED_DATA")
    path = Path(named) if named else TESTS.parent.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}; set PROTEMB_SHARED_DATA to its folder")
    return path


@pytest.fixture(params=["1a8o.pdb", "1a8o.cif", "1lcd.pdb.gz", "1orc.pdb", "3wup.json.gz", "pdb1gdr.ent"])
def small_structure(request: pytest.FixtureRequest, structures: Path) -> Path:
    """Each of a few small files with one protein chain, over all formats."""
    return structures / str(request.param)


@pytest.fixture(scope="session")
def states_path() -> Path:
    """A small random model of contract 2, written by tests/make_states.py; its score graph lies beside it."""
    return TESTS / "models" / "states.onnx"


@pytest.fixture(scope="session")
def fill_at_random() -> Callable[..., ScoreNetwork]:
    """Make a network with nothing at zero: `size` tells by how much a parameter of that name is moved."""
    return filled_at_random


def filled_at_random(config: NetworkConfig, size: Callable[[str], float]) -> ScoreNetwork:
    """As the fixture `fill_at_random` says."""
    import torch

    from protemb_train.network.network import ScoreNetwork

    torch.manual_seed(0)
    network = ScoreNetwork(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.add_(size(name) * torch.randn(parameter.shape))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * torch.randn(buffer.shape))
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape))
    return network.eval()
