"""The report of a corpus, as files and on the screen: `corpus.json` and `corpus.skipped.csv`."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from protemb_sdk._base.output import write_text_whole, written_whole
from protemb_train.corpus.chains import Skip
from protemb_train.corpus.corpus import SPLITS

_LENGTHS = (0, 50, 100, 150, 200, 300, 400, 500, 750, 1000, 1500)
_BAR = 30  # characters


def histogram(lengths: NDArray[np.int64]) -> dict[str, int]:
    """Count chains by length; the bins are named "50-99", the last "1500-"."""
    names = [f"{a}-{b - 1}" for a, b in zip(_LENGTHS[:-1], _LENGTHS[1:], strict=True)] + [f"{_LENGTHS[-1]}-"]
    counts = np.histogram(lengths, bins=[*_LENGTHS, np.inf])[0]
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def by_kind(skips: Sequence[Skip]) -> dict[str, int]:
    """Count skipped files and chains by category, the most frequent first."""
    return dict(Counter(skip.kind for skip in skips).most_common())


def write_skipped(skips: Sequence[Skip], path: Path) -> None:
    """Write one line for every file and chain that is not in the corpus."""
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(("path", "chain", "kind", "reason"))
        # A file name need not be valid Unicode.
        lines.writerows(
            [text.encode("utf-8", "replace").decode() for text in (s.path, s.chain, s.kind, s.reason)]
            for s in skips
        )


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write the report as JSON."""
    write_text_whole(path, json.dumps(report, indent=1) + "\n")


def show_report(report: Mapping[str, Any], to: Console) -> None:
    """Print the report: one line per step, a table of the splits, a histogram of the lengths."""
    steps = Table(box=None, show_header=False)
    steps.add_column()
    steps.add_column(justify="right")
    apart = {f"{split} {what}" for split in SPLITS for what in ("chains", "clusters")}
    for name, value in report.items():
        if name == "skipped":
            for kind, count in value.items():
                steps.add_row(f"skipped: {kind}", f"{count:,}")
        elif isinstance(value, int) and name not in apart:
            steps.add_row(name, f"{value:,}")
    to.print(steps)
    splits = Table("split", box=None)
    for what in ("chains", "clusters"):
        splits.add_column(what, justify="right")
    for split in SPLITS:
        splits.add_row(split, *(f"{report[f'{split} {what}']:,}" for what in ("chains", "clusters")))
    to.print(splits)
    lengths = Table("residues", box=None)
    lengths.add_column("chains", justify="right")
    lengths.add_column()
    most = max(report["lengths"].values())
    for name, count in report["lengths"].items():
        lengths.add_row(name, f"{count:,}", "█" * round(_BAR * count / most))
    to.print(lengths)
    to.print(f"sha256 {report['sha256']}", highlight=False, soft_wrap=True)
