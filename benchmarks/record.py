"""Write the tables of `make bench`, `make bench-compare` and `make bench-cuda` from pytest-benchmark JSON.

With a third file name, time is also plotted against the number of residues. The name of each benchmark group
must then begin with the number of residues.
"""

from __future__ import annotations

import json
import re
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

COMMANDS = {"cuda": "make bench-cuda", "compare": "make bench-compare"}
TITLES = {"cuda": "Speed on a GPU", "compare": "Comparison with other encoders"}

# Names of tests in the table. Other tests keep their names.
NAMES = {
    r"test_cold_start\[import\]": "import protemb_sdk",
    r"test_cold_start\[numpy\]": "import numpy",
    r"test_cold_start\[first-embedding\]": "first embedding, 70 residues",
    r"test_copy_of_.*": "a copy",
    r"test_embed_length\[(.+)-(\d+)\]": r"\1, \2 residues",
    r"test_embed_protemb": "protemb",
    r"test_embed_pytorch\[(.+)\]": r"network of \1 in PyTorch",
    r"test_embedder\[(.+)-protein and residues-(\d+)\]": r"\1, \2 residues",
    r"test_embedder\[(.+)-and contacts-(\d+)\]": r"\1, \2 residues, with contacts",
    r"test_folder\[1\]": "one process",
    r"test_folder\[(\d+)\]": r"\1 workers",
    r"test_many_lengths\[(.+)-1\]": r"\1",
    r"test_many_lengths\[(.+)-(\d+)\]": r"\1, batches of \2",
    r"test_peak_memory\[(\d+)-(\d+)-(.+)\]": r"\3, \1 residues, limit \2 MiB",
    r"test_pooling_in_the_graph": "in the graph",
    r"test_(?:pooling|readouts)_protemb\[1\]": "protemb, 1 thread",
    r"test_(?:pooling|readouts)_protemb\[(\d+)\]": r"protemb, \1 threads",
    r"test_(?:pooling|readouts|windows)_numpy": "NumPy",
    r"test_windows_protemb": "protemb",
    r"test_read_structure": "protemb",
    r"test_ceilings\[(.+)\]": r"\1",
}


def row_name(name: str) -> str:
    """Return the name of a test in the table."""
    for pattern, words in NAMES.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(words)
    return name


def human(seconds: float) -> str:
    """Return a time in seconds, or in milliseconds below one second."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def numbers_as_numbers(text: str) -> list[tuple[int, str]]:
    """Return a sort key that orders numbers by value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def table(rows: list[tuple[tuple[str, str, str], dict[str, str]]]) -> list[str]:
    """Return the lines of a table of names, medians and ratios, with a column for each additional value.

    Values shared by all rows are given above the table.
    """
    keys = list(dict.fromkeys(key for _, extra in rows for key in extra))
    shared = [key for key in keys if len(rows) > 1 and len({extra.get(key) for _, extra in rows}) == 1]
    columns = [key for key in keys if key not in shared]
    lines = [", ".join(f"{key}: {rows[0][1][key]}" for key in shared) + ".", ""] if shared else []
    lines += ["| " + " | ".join(["benchmark", "median", "ratio", *columns]) + " |"]
    lines += ["|" + "---|" * (3 + len(columns))]
    for measured, extra in rows:
        lines.append("| " + " | ".join([*measured, *(extra.get(key, "") for key in columns)]) + " |")
    return lines


def names_of(rows: list[dict[str, Any]]) -> set[str]:
    """Return the names of benchmarks in the table."""
    return {row_name(row["name"]) for row in rows}


def one_group(group: str, rows: list[dict[str, Any]]) -> list[str]:
    """Return a heading and the table of a group, the fastest benchmark first."""
    rows = sorted(rows, key=lambda b: b["stats"]["median"])
    fastest = rows[0]["stats"]["median"]
    cells = []
    for row in rows:
        median = row["stats"]["median"]
        measured = (row_name(row["name"]), human(median), f"{median / fastest:.2f}")
        cells.append((measured, {key: str(value) for key, value in row["extra_info"].items()}))
    return [f"## {group}", "", *table(cells)]


def subject(group: str) -> str:
    """Return what follows the first comma in the name of a group."""
    return group.partition(", ")[2]


def medians(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return a heading and one table of the medians of several groups, with a column for each."""
    sizes = [group.partition(", ")[0] for group in groups]
    found = [{row_name(row["name"]): row["stats"]["median"] for row in rows} for rows in groups.values()]
    lines = [f"## Median time {subject(next(iter(groups)))}", ""]
    lines += [f"| benchmark | {' | '.join(sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for name in sorted(found[0], key=found[0].__getitem__):
        lines.append(f"| {name} | {' | '.join(human(of[name]) for of in found)} |")
    return lines


def main(source: Path, target: Path) -> None:
    """Write medians by group, with ratios to the fastest row of each group."""
    loaded = json.loads(source.read_text())
    cpu = loaded["machine_info"]["cpu"]
    lines = [
        f"# {TITLES.get(target.stem, 'Speed and memory')}",
        "",
        f"Written by `{COMMANDS.get(target.stem, 'make bench')}`. "
        f"{cpu.get('brand_raw', 'unknown processor')}, {cpu.get('count')} cores, "
        f"Python {loaded['machine_info']['python_version']}. Medians of one run; ratio to the fastest.",
    ]
    benchmarks = sorted(loaded["benchmarks"], key=lambda b: numbers_as_numbers(b["group"] or ""))
    groups = {name: list(of) for name, of in groupby(benchmarks, key=lambda b: b["group"])}
    while groups:
        first = next(iter(groups))
        # One table for groups such as "1 x 128 residues, to protein vectors", of the same benchmarks.
        alike = [
            name
            for name, rows in groups.items()
            if subject(name) == subject(first) and names_of(rows) == names_of(groups[first])
        ]
        if subject(first) and len(alike) > 2:
            lines += ["", *medians({name: groups.pop(name) for name in alike})]
        else:
            lines += ["", *one_group(first, groups.pop(first))]
    target.write_text("\n".join(lines) + "\n")


def draw(source: Path, target: Path) -> None:
    """Plot median seconds against residues, one line per benchmark name."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines: dict[str, list[tuple[int, float]]] = {}
    for benchmark in json.loads(source.read_text())["benchmarks"]:
        residues = int(benchmark["group"].split()[0])
        lines.setdefault(benchmark["name"], []).append((residues, benchmark["stats"]["median"]))
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    axes.set_prop_cycle(color=pyplot.get_cmap("tab20").colors[::2] + pyplot.get_cmap("tab20").colors[1::2])
    for name, points in sorted(lines.items(), key=lambda line: -max(s for _, s in line[1])):
        ours = name.startswith("protemb")
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name, linewidth=2.5 if ours else 1,
                  linestyle="-" if ours else "--")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="residues", ylabel="seconds a chain, one thread")
    axes.set_xticks(ticks := sorted({n for points in lines.values() for n, _ in points}), map(str, ticks))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(target, dpi=120)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    for picture in sys.argv[3:]:
        draw(Path(sys.argv[1]), Path(picture))
