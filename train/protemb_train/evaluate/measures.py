"""A score with its confidence interval, from bootstrap samples of the chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protemb_train.probe.scores import resampled

DRAWS = 500
SEED = 0

Floats = NDArray[np.float64]


class Measure(NamedTuple):
    """One score of one network.

    Parameters
    ----------
    value : float
        Score over all chains or targets.
    draws : ndarray, float64, shape (DRAWS,)
        Score on bootstrap samples; the n-th sample is the same for every network.
    """

    value: float
    draws: Floats

    @classmethod
    def of(cls, values: Floats) -> Measure:
        """Return a measure from the values for each row of `draws_of`."""
        return cls(float(values[0]), values[1:])

    def minus(self, other: Measure) -> Measure:
        """Return the difference to another network, on the same samples."""
        return Measure(self.value - other.value, self.draws - other.draws)

    @property
    def interval(self) -> tuple[float, float]:
        """95% confidence interval."""
        low, high = np.nanquantile(self.draws, [0.025, 0.975])
        return float(low), float(high)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        low, high = self.interval
        return {
            "value": round(self.value, 5),
            "low": round(low, 5),
            "high": round(high, 5),
            "draws": [round(float(d), 5) for d in self.draws],
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Measure:
        """Inverse of `as_dict`."""
        return cls(float(kept["value"]), np.array(kept["draws"], dtype=np.float64))


def draws_of(units: int) -> Floats:
    """Return the counts of each chain or target: all once (first row), then `DRAWS` bootstrap samples."""
    return resampled(units, DRAWS, SEED)


def mean_of(values: NDArray[np.floating], weights: NDArray[np.floating] | None = None) -> Measure:
    """Return the mean over units without NaN, with the weight of each unit (1 by default)."""
    x = np.asarray(values, dtype=np.float64)
    w = np.isfinite(x) * (np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64))
    drawn = draws_of(len(x))
    return Measure.of((drawn @ (np.nan_to_num(x) * w)) / np.maximum(drawn @ w, 1e-12))
