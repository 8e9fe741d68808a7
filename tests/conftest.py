"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from protemb_train.network.config import NetworkConfig
    from protemb_train.network.network import ScoreNetwork

TESTS = Path(__file__).resolve().parent

# A shell starts programs in the background with Ctrl-C ignored, which the programs under test would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def structures() -> Path:
    """The folder of small real structure files, which are described in its README."""
    return TESTS / "structures"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The large data next to the repository. Without them the test is skipped."""
    named = os.environ.get("PROTEMB_SHARED_DATA")
    path = Path(named) if named else TESTS.parent.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}; set PROTEMB_SHARED_DATA to its folder")
    return path


@pytest.fixture(params=["1a8o.pdb", "1a8o.cif", "1lcd.pdb.gz", "1orc.pdb", "3wup.json.gz", "pdb1gdr.ent"])
def small_structure(request: pytest.FixtureRequest, structures: Path) -> Path:
    """Small files with one protein chain, in all formats."""
    return structures / str(request.param)


@pytest.fixture(scope="session")
def states_path() -> Path:
    """A small random model of contract 2, written by tests/make_states.py, with its score graph."""
    return TESTS / "models" / "states.onnx"


@pytest.fixture(scope="session")
def fill_at_random() -> Callable[..., ScoreNetwork]:
    """Make a network with random weights. `size` gives the scale of the change for a parameter name."""
    return filled_at_random


def filled_at_random(config: NetworkConfig, size: Callable[[str], float]) -> ScoreNetwork:
    """Return the network described in the fixture `fill_at_random`."""
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
