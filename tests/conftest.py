"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
