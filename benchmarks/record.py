"""Turn a pytest-benchmark JSON file into the table that the README quotes.

Run through `make bench`, `make bench-compare` and `make bench-cuda`. Into a third file, a picture is drawn of
seconds against residues, of benchmarks whose groups begin with a number of residues.
"""

from __future__ import annotations

import json
import re
import sys
from itertools import groupby
from pathlib import Path

COMMANDS = {"cuda": "make bench-cuda", "compare": "make bench-compare"}
TITLES = {"cuda": "On a GPU", "compare": "Beside other encoders"}

# What a test is called in its table; tests that name themselves stand as they are.
NAMES = {
    r"test_cold_start\[import\]": "import protemb_sdk",
    r"test_cold_start\[numpy\]": "import numpy",
    r"test_cold_start\[first-embedding\]": "first embedding, 70 residues",
    r"test_copy_of_.*": "a copy",
    r"test_embed_length\[(.+)-(\d+)\]": r"\1, \2 residues",
    r"test_embed_protemb": "protemb",
    r"test_embed_pytorch\[(.+)\]": r"network of \1 in PyTorch",
    r"test_embedder\[(.+)-protein and residues-(\d+)\]": r"\1, \2 residues",
    r"test_embedder\[(.+)-and contacts-(\d+)\]": r"\1, \2 residues, contacts too",
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
    """Return what a reader calls a test."""
    for pattern, words in NAMES.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(words)
    return name


def human(seconds: float) -> str:
    """Return seconds, or milliseconds below one."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def numbers_as_numbers(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts 64 before 128."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def main(source: Path, target: Path) -> None:
    """Write medians, grouped, with ratios to the fastest row of each group."""
    loaded = json.loads(source.read_text())
    cpu = loaded["machine_info"]["cpu"]
    lines = [
        f"# {TITLES.get(target.stem, 'Speed and memory')}",
        "",
        f"Rewritten by `{COMMANDS.get(target.stem, 'make bench')}`. "
        f"{cpu.get('brand_raw', 'unknown processor')}, {cpu.get('count')} cores, "
        f"Python {loaded['machine_info']['python_version']}. Medians of one run; compare rows, not machines.",
    ]
    benchmarks = sorted(loaded["benchmarks"], key=lambda b: numbers_as_numbers(b["group"] or ""))
    for group, members in groupby(benchmarks, key=lambda b: b["group"]):
        rows = sorted(members, key=lambda b: b["stats"]["median"])
        fastest = rows[0]["stats"]["median"]
        lines += ["", f"## {group}", "", "| what | median | ratio | |", "|---|---|---|---|"]
        for row in rows:
            extra = ", ".join(f"{key} {value}" for key, value in row["extra_info"].items())
            median = row["stats"]["median"]
            lines.append(f"| {row_name(row['name'])} | {human(median)} | {median / fastest:.2f} | {extra} |")
    target.write_text("\n".join(lines) + "\n")


def draw(source: Path, target: Path) -> None:
    """Draw median seconds against residues, a line for each benchmark name."""
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
