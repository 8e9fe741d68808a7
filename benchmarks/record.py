"""Turn a pytest-benchmark JSON file into the table that the README quotes.

Run through `make bench`.
"""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path


def main(source: Path, target: Path) -> None:
    """Write medians, grouped, with ratios to the fastest row of each group."""
    loaded = json.loads(source.read_text())
    cpu = loaded["machine_info"]["cpu"]
    lines = [
        "# Recorded benchmarks",
        "",
        f"Rewritten by `make bench`. {cpu.get('brand_raw', 'unknown processor')}, {cpu.get('count')} cores, "
        f"Python {loaded['machine_info']['python_version']}. Medians of one run; compare rows, not machines.",
    ]
    benchmarks = sorted(loaded["benchmarks"], key=lambda b: b["group"] or "")
    for group, members in groupby(benchmarks, key=lambda b: b["group"]):
        rows = sorted(members, key=lambda b: b["stats"]["median"])
        fastest = rows[0]["stats"]["median"]
        lines += ["", f"## {group}", "", "| what | median | ratio | |", "|---|---|---|---|"]
        for row in rows:
            extra = ", ".join(f"{key} {value}" for key, value in row["extra_info"].items())
            median = row["stats"]["median"]
            lines.append(f"| {row['name']} | {median * 1e3:.3g} ms | {median / fastest:.2f} | {extra} |")
    target.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
