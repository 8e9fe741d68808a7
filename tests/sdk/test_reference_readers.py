"""Chains, sequences and C-alphas agree with Biotite and Biopython, or the difference has a known reason.

python tests/sdk/test_reference_readers.py     # writes tests/reference_readers.md, with the shared data
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
from reference_readers import PAGE, compared, differences, files_of, ours, write_page  # noqa: E402
from reference_reasons import Facts  # noqa: E402

NAMES = sorted(path.name for path in files_of(TESTS / "structures"))


@pytest.mark.parametrize("name", NAMES)
def test_other_readers_agree_or_the_reason_is_known(name: str) -> None:
    pytest.importorskip("biotite")
    pytest.importorskip("Bio.PDB")
    for found in compared(TESTS / "structures" / name):
        assert found.reason, f"{found.reader} of {name}: {found.difference}"


def test_differences_that_the_file_does_not_explain_have_no_reason(structures: Path) -> None:
    data = (structures / "1a8o.pdb").read_bytes()
    mine, facts = ours(data), Facts(data, "PDB")
    assert mine[0].name == "MSE" and not list(differences(mine, mine, facts))
    moved = replace(mine[1], place=(0.5, 0.5, 0.5))
    renamed = replace(mine[2], chain="B")
    other = replace(mine[3], letter="W")
    theirs = [moved, renamed, other, *mine[4:]]
    found = [(what, reason) for what, reason, _ in differences(mine, theirs, facts)]
    assert sorted(found) == [
        ("another letter", ""),
        ("chain A is B there", ""),
        ("it has one residue more", ""),
        ("it lacks a residue", ""),
        ("it lacks a residue", ""),
    ]


def test_all_shared_files_agree_or_the_reason_is_known(shared_data: Path) -> None:
    """This test reads a third of the files; the page covers all of them."""
    pytest.importorskip("biotite")
    pytest.importorskip("Bio.PDB")
    files = files_of(shared_data / "structures")[::3]
    unexplained = [found for path in files for found in compared(path) if not found.reason]
    assert not unexplained, unexplained[:5]


def test_the_page_has_no_difference_without_a_reason() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "| unexplained | 0 |" in text and "1,097 shared files" in text


if __name__ == "__main__":
    write_page()
