"""Chains, sequences and C-alphas as Biotite and Biopython read them; every disagreement has its reason.

python tests/sdk/test_reference_readers.py     # writes tests/reference_readers.md, over the shared data too
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
from reference_readers import PAGE, compared, files_of, write_page  # noqa: E402

NAMES = sorted(path.name for path in files_of(TESTS / "structures"))


@pytest.mark.parametrize("name", NAMES)
def test_other_readers_find_the_same_or_the_reason_is_known(name: str) -> None:
    pytest.importorskip("biotite")
    pytest.importorskip("Bio.PDB")
    for found in compared(TESTS / "structures" / name):
        assert found.reason, f"{found.reader} of {name}: {found.difference}"


def test_all_shared_files_agree_or_the_reason_is_known(shared_data: Path) -> None:
    """A third of them here, all of them in the page."""
    pytest.importorskip("biotite")
    pytest.importorskip("Bio.PDB")
    files = files_of(shared_data / "structures")[::3]
    unexplained = [found for path in files for found in compared(path) if not found.reason]
    assert not unexplained, unexplained[:5]


def test_the_page_has_no_disagreement_without_a_reason() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "| unexplained | 0 |" in text and "1,097 shared files" in text


if __name__ == "__main__":
    write_page()
