"""The README is short, and its results table agrees with the recorded tables that it links to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINES = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
FIGURE = re.compile(r"(?<![\w.])0?\.\d{3}(?!\d)")


def results() -> list[str]:
    """Return the rows of the results tables."""
    section = LINES[LINES.index("## Results") + 1 :]
    end = next(i for i, line in enumerate(section) if line.startswith("## "))
    return [line for line in section[:end] if line.startswith("| ") and not line.startswith("| task ")]


def test_the_readme_is_short() -> None:
    assert len(LINES) <= 150
    assert max(len(line) for line in LINES if not line.startswith("|")) <= 100


@pytest.mark.parametrize("row", results(), ids=lambda row: row.split("|")[1].strip())
def test_figures_of_the_results_table_are_in_the_linked_page(row: str) -> None:
    (page,) = re.findall(r"\]\(([^)]+\.md)\)", row)
    recorded = {found.lstrip("0") for found in FIGURE.findall((ROOT / page).read_text(encoding="utf-8"))}
    figures = {found.lstrip("0") for found in FIGURE.findall(row)}
    assert len(figures) >= 2
    assert figures <= recorded
