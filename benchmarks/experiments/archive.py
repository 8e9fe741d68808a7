"""Cost of embedding all structures of an archive: time, money and bytes, estimated from measured values.

    python benchmarks/experiments/archive.py -o benchmarks/experiments/archive.md

The time of a chain is a + b L^2, fitted to the medians in results.md (one thread) and cuda.md (one GPU);
lengths are log-normal. All assumptions are options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.optimize import nnls
from scipy.stats import lognorm

from protemb_sdk import Embedder

HERE = Path(__file__).resolve().parents[1]
CORE, GPU = "a core", "an H100"
YEAR_HOURS = 365.25 * 24


def medians(page: Path) -> Iterator[tuple[str, str, float]]:
    """Yield group, name and median seconds of each row written by record.py."""
    group, columns = "", [""]
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("## "):
            group = line[3:]
        elif cells[0] == "benchmark":
            columns = [group] if cells[1] == "median" else cells[1:]  # one group, or one in each column
        else:
            for column, cell in zip(columns, cells[1:], strict=False):
                if match := re.fullmatch(r"([\d.e+]+) (m?)s", cell):
                    yield column, cells[0], float(match[1]) / (1e3 if match[2] else 1)


def measured() -> dict[tuple[str, str], dict[int, float]]:
    """Return seconds per chain by length, for each model and device."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for group, name, seconds in medians(HERE / "results.md"):
        if group.startswith("embedding against length"):
            model, length = re.fullmatch(r"(.+), (\d+) residues", name).groups()  # type: ignore[union-attr]
            found.setdefault((model, CORE), {})[int(length)] = seconds
    kinds = {
        "ONNX Runtime, float32 (the SDK's)": "float32",
        "ONNX Runtime, float16 (base-fp16)": "base-fp16",
        "torch.compile, float16, CUDA graphs": "float16, torch.compile and CUDA graphs",
    }
    for group, name, seconds in medians(HERE / "cuda.md"):
        if (match := re.match(r"(\d+) x (\d+) residues", group)) and name in kinds:
            batch, length = map(int, match.groups())
            what = f"{GPU}, {kinds[name]}, batches of {batch}"
            found.setdefault(("base", what), {})[length] = seconds / batch
    return found


def fitted(seconds: dict[int, float], square: float) -> float:
    """Return the mean seconds per chain for a mean L^2 of `square`, fitted by relative error."""
    lengths, taken = np.array(list(seconds)), np.array(list(seconds.values()))
    terms = np.stack([np.ones(len(lengths)), lengths.astype(float) ** 2], axis=1) / taken[:, None]
    (a, b), _ = nnls(terms, np.ones(len(lengths)))
    return float(a + b * square)


def human(value: float, units: list[str]) -> str:
    """Return a size with decimal unit prefixes."""
    for unit in units[:-1]:
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} {units[-1]}"


def main(
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")],
    structures: Annotated[float, typer.Option(help="Number of chains in the archive.")] = 214e6,
    mean_length: Annotated[float, typer.Option(help="Mean number of residues per chain.")] = 330,
    spread: Annotated[float, typer.Option(help="Standard deviation of log length.")] = 0.65,
    longest: Annotated[float, typer.Option(help="Largest number of residues.")] = 2700,
    reading: Annotated[float, typer.Option(help="Milliseconds to read a file on one core.")] = 5.0,
    core_hour: Annotated[float, typer.Option(help="Price of a core per hour, dollars.")] = 0.03,
    gpu_hour: Annotated[float, typer.Option(help="Price of a GPU per hour, dollars.")] = 2.5,
    days: Annotated[float, typer.Option(help="Available time, days.")] = 7,
) -> None:
    """Estimate the cost, and write the page."""
    law = lognorm(spread, scale=mean_length / np.exp(spread**2 / 2))
    lengths = np.minimum(law.ppf((np.arange(100_000) + 0.5) / 100_000), longest)
    square = float(np.mean(lengths**2))
    number = human(structures, ["", "thousand", "million", "billion"])
    reading_hours = structures * reading / 1e3 / 3600
    lines = [
        f"# Estimated cost of embedding {number} structures\n",
        "Written by `python benchmarks/experiments/archive.py`, from [results.md](../results.md) and "
        "[cuda.md](../cuda.md): measured medians, fitted by a + b L^2. **An estimate**: nothing of this "
        "size was run.\n",
        f"Assumed (each an option): lengths log-normal, {mean_length:g} on average, spread {spread:g}, up to "
        f"{longest:g}, so the mean of L^2 is {square:,.0f}; {reading:g} ms on a core to read a file; "
        f"{core_hour:g} dollars per hour for a core and {gpu_hour:g} for a GPU. A vCPU that shares its core "
        "with another is slower.\n",
        f"| model | device | chains/s per device | device years | devices for {days:g} days | dollars |",
        "|---|---|---|---|---|---|",
    ]
    for (model, device), seconds in measured().items():
        each = fitted(seconds, square)
        hours = structures * each / 3600
        price = gpu_hour if GPU in device else core_hour
        if device == CORE:
            hours += reading_hours
            each += reading / 1e3
        dollars = hours * price + (reading_hours * core_hour if GPU in device else 0)
        cells = (model, device, f"{1 / each:.3g}", f"{hours / YEAR_HOURS:.3g}")
        lines.append(f"| {' | '.join(cells)} | {np.ceil(hours / 24 / days):,.0f} | {dollars:,.0f} |")
    lines += [
        f"\nReading files: {reading_hours / YEAR_HOURS:.2g} core years, included in the dollars of every "
        "row.\n",
        "| level | base, float32 | base, float16 | small, float16 |",
        "|---|---|---|---|",
    ]
    numbers = {"protein": 1.0, "residue": mean_length, "pair": square}
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    widths = {name: Embedder(name, "cpu").widths for name in ("base", "small")}
    for level, count in numbers.items():
        sizes = [
            structures * count * widths[model][level] * width
            for model, width in (("base", 4), ("base", 2), ("small", 2))
        ]
        lines.append(f"| {level} | {' | '.join(human(size, units) for size in sizes)} |")
    lines.append("\nRecomputing pair maps is cheaper than storing them.")
    out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
