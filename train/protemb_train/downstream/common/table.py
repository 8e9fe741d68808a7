"""Means over seeds and paired differences, for the result tables of the tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of a score over seeds.

    Parameters
    ----------
    mean : float
        Mean.
    deviation : float or None
        Sample standard deviation (n - 1); None for a single value.
    """

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the mean and the standard deviation of the values."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)

    def __str__(self) -> str:
        parts = [self.mean] if self.deviation is None else [self.mean, self.deviation]
        return "±".join(f"{part:.3f}".replace("0.", ".") for part in parts)

    def as_dict(self) -> dict[str, float | None]:
        """Return plain values with four decimals; NaN becomes None."""
        both = {"mean": self.mean, "deviation": self.deviation}
        return {name: None if v is None or np.isnan(v) else round(v, 4) for name, v in both.items()}


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean difference of two rows, with two 95% confidence intervals.

    Parameters
    ----------
    mean : float
        Mean over seeds.
    seeds : tuple of float
        Interval over seeds: Student's t of paired differences; NaN for one seed.
    samples : tuple of float
        Interval over test samples (chains or targets), by bootstrap.
    """

    mean: float
    seeds: tuple[float, float]
    samples: tuple[float, float]

    @classmethod
    def of(cls, by_seed: NDArray[np.float64], samples: tuple[float, float]) -> Difference:
        """Return the difference from its value for each seed and the interval over samples."""
        mean, half = float(by_seed.mean()), float("nan")
        if len(by_seed) > 1:
            half = float(stats.t.ppf(0.975, len(by_seed) - 1) * stats.sem(by_seed))
        return cls(mean, (mean - half, mean + half), samples)

    def __str__(self) -> str:
        """Return the mean and the interval over samples."""
        return f"{self.mean:+.3f} ({self.samples[0]:+.3f} to {self.samples[1]:+.3f})"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values with four decimals; NaN becomes None."""
        both = {"seeds": self.seeds, "samples": self.samples}
        return {"mean": round(self.mean, 4)} | {
            name: [None if np.isnan(value) else round(value, 4) for value in limits]
            for name, limits in both.items()
        }


def markdown(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    first, *rest = (f"| {' | '.join(str(cell) for cell in row)} |" for row in (head, *lines))
    return "\n".join([first, "|" + "---|" * len(head), *rest])


def difference_table(
    names: Iterable[str], differences: Mapping[str, Mapping[str, Mapping[str, Difference]]], score: str
) -> str:
    """Return the differences of rows in one score, with one column per subtracted row."""
    lines = (
        [name, *(of[name][score] if name in of else "" for of in differences.values())] for name in names
    )
    return markdown(["row", *(f"minus {other}" for other in differences)], lines)


def plain_differences(
    differences: Mapping[str, Mapping[str, Mapping[str, Difference]]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return differences as plain values."""
    return {
        other: {name: {key: d.as_dict() for key, d in of.items()} for name, of in rows.items()}
        for other, rows in differences.items()
    }


def encoder_cell(record: Mapping[str, Any]) -> str:
    """Return the name and noise level of a row's encoder."""
    sigma = record.get("sigma")
    return f"{record['encoder']}, {sigma:.4g} angstrom" if sigma else str(record["encoder"])


def readout_line(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one sentence per set of readouts, with the rows that use it."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for name, record in records.items():
        if found := record.get("readouts"):
            rows.setdefault(tuple(found), []).append(name)
    if len(rows) == 1:
        return f"Residue readouts of structure encoders: {', '.join(next(iter(rows)))}."
    return " ".join(f"Readouts {', '.join(found)}: {', '.join(names)}." for found, names in rows.items())
