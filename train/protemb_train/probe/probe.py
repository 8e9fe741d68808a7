"""Linear probes of frozen embeddings, fitted on some held-out chains and evaluated on others.

The regularisation is selected by cross-validation over whole chains of the fitting set; the test set is used
once. All rows share readouts, probe, chains and bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from protemb_sdk import ProtembError
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.probe.encoders import Encoder
from protemb_train.probe.labels import TASKS, Task, labels
from protemb_train.probe.scores import ClassScores, Interval, NumberScores, Scores, intervals, resampled

FOLDS = 3
STRENGTHS = (1e-2, 1e-1, 1.0, 10.0)  # C of the classifier
ALPHAS = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)  # of the ridge
LEAST_VARIANCE = 1e-10  # below it a column is constant, and only rounding errors would be scaled
LEAST_PROBABILITY = 1e-9  # for classes missing in the fitting set

Floats = NDArray[np.float64]


class ProbeError(ProtembError):
    """The chains do not allow a probe."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Chains of one set and their labels.

    Parameters
    ----------
    traces : sequence of Trace
        Whole chains.
    labels : sequence of dict
        Labels per chain, by name of the task, shape (L,), NaN where undefined.
    """

    traces: Sequence[Trace]
    labels: Sequence[dict[str, Floats]]

    @classmethod
    def of(cls, traces: Sequence[Trace]) -> Side:
        """Label the chains."""
        return cls(traces, [labels(trace) for trace in traces])

    def features(self, encoder: Encoder) -> list[NDArray[np.float32]]:
        """Return the features of each chain from the encoder."""
        return [encoder.features(trace) for trace in self.traces]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Result for one encoder and readout on one task.

    Parameters
    ----------
    task, encoder, readout : str
        Names.
    sigma : float or None
        Noise level in angstrom.
    width : int
        Number of features per residue.
    chosen : float or None
        Selected regularisation: C of the classifier, alpha of the ridge regression.
    scores : dict of str to Interval
        Scores on the test set.
    gain : dict of str to Interval
        Paired difference to the untrained network; empty if there is none.
    """

    task: str
    encoder: str
    readout: str
    sigma: float | None
    width: int
    chosen: float | None
    scores: dict[str, Interval]
    gain: dict[str, Interval]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = {
            name: getattr(self, name) for name in ("task", "encoder", "readout", "sigma", "width", "chosen")
        }
        for name, held in (("scores", self.scores), ("gain", self.gain)):
            plain[name] = {score: interval.as_dict() for score, interval in held.items()}
        return plain


def held_out_sides(
    path: Any, chains: tuple[int, int], lengths: tuple[int, int], seed: int = 0
) -> tuple[Side, Side]:
    """Return the fitting set (split val) and the test set (split test) of a corpus.

    Raises
    ------
    CorpusError, ProbeError
        If the corpus cannot be read or is too small, or a cluster is in both sets.
    """
    sides, clusters = [], []
    for split, count in zip(("val", "test"), chains, strict=True):
        corpus = Corpus(path, [split])
        positions = corpus.one_per_cluster(count, lengths, seed)
        if len(positions) < FOLDS:
            raise ProbeError(
                f"{split} has {len(positions)} clusters of chains of {lengths[0]} to "
                f"{lengths[1]} residues, but a probe needs {FOLDS}; allow other lengths, or a larger corpus",
                corpus.path,
            )
        sides.append(Side.of([corpus[position] for position in positions]))
        clusters.append(set(corpus.clusters[positions].tolist()))
    shared = clusters[0] & clusters[1]
    if shared:
        raise ProbeError(f"cluster {min(shared)} is in val and in test; build the corpus again", path)
    return sides[0], sides[1]


def _labelled(
    side: Side, features: Sequence[NDArray[np.float32]], task: Task, columns: slice
) -> tuple[list[NDArray[np.float32]], list[Any]]:
    """Return features and labels of the labelled residues, per chain."""
    x, y = [], []
    for chain, known in zip(features, side.labels, strict=True):
        label = known[task.name]
        there = np.isfinite(label)
        x.append(chain[there, columns])
        y.append(label[there].astype(np.int64) if task.classes else label[there])
    return x, y


def _model(task: Task, groups: NDArray[np.int64], *, blind: bool) -> Any:
    if blind:
        return DummyClassifier(strategy="prior") if task.classes else DummyRegressor()
    linear = LogisticRegression(max_iter=1000, tol=1e-3) if task.classes else Ridge()
    grid = {"logisticregression__C": STRENGTHS} if task.classes else {"ridge__alpha": ALPHAS}
    folds = list(GroupKFold(FOLDS).split(groups, groups=groups))
    scoring = _mean_log_likelihood if task.classes else "neg_mean_squared_error"
    steps = make_pipeline(VarianceThreshold(LEAST_VARIANCE), StandardScaler(), linear)
    return GridSearchCV(steps, grid, cv=folds, scoring=scoring)


def _log_probability(model: Any, x: NDArray[Any], classes: int) -> Floats:
    """Return log-probabilities (rows, classes); the fitting set may lack a class."""
    probability = np.zeros((len(x), classes))
    probability[:, model.classes_] = model.predict_proba(x)
    return np.log(np.maximum(probability, LEAST_PROBABILITY))


def _mean_log_likelihood(model: Any, x: NDArray[Any], y: NDArray[np.int64]) -> float:
    classes = int(max(y.max(), model.classes_.max())) + 1
    return float(_log_probability(model, x, classes)[np.arange(len(y)), y].mean())


def fit_and_score(
    task: Task,
    fit: tuple[list[NDArray[np.float32]], list[Any]],
    test: tuple[list[NDArray[np.float32]], list[Any]],
    *,
    blind: bool = False,
) -> tuple[Scores, float | None]:
    """Return the test scores of a fitted probe, and its regularisation.

    Parameters
    ----------
    task : Task
        Task of the labels.
    fit, test : tuple of two lists
        Per chain, features (L, width) and labels (L,).
    blind : bool, default False
        Use no features: class frequencies, or the mean.
    """
    groups = np.repeat(np.arange(len(fit[1])), [len(y) for y in fit[1]])
    # float64: in float32 lbfgs stops early for nearly collinear columns
    x, y = np.concatenate(fit[0]).astype(np.float64), np.concatenate(fit[1])
    model = _model(task, groups, blind=blind).fit(x, y)
    chosen = None if blind else float(next(iter(model.best_params_.values())))
    borders = np.cumsum([len(y) for y in test[1]])[:-1]
    rows = np.concatenate(test[0]).astype(np.float64)
    if not task.classes:
        return NumberScores.of(test[1], np.split(model.predict(rows), borders)), chosen
    log_probability = _log_probability(model, rows, task.classes)
    return ClassScores.of(test[1], np.split(log_probability, borders)), chosen


def probe(
    fit: Side,
    test: Side,
    encoders: Sequence[Encoder],
    tasks: Sequence[Task] = TASKS,
    *,
    samples: int = 1000,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Probe every encoder on every task, with each readout, and a predictor without features.

    Parameters
    ----------
    fit, test : Side
        Chains for fitting and for the test.
    encoders : sequence of Encoder
        Trained and untrained networks, and descriptors without a network.
    tasks : sequence of Task
        Labels to predict.
    samples : int, default 1000
        Number of bootstrap samples.
    seed : int, default 0
        Seed of the bootstrap.
    say : callable
        Called with a message after each encoder.
    """
    weight_BN = resampled(len(test.traces), samples, seed)
    # (task, encoder, sigma, readout) -> scores, width, chosen
    found: dict[tuple[str, str, float | None, str], tuple[Scores, int, float | None]] = {}
    nothing = [[np.zeros((len(t.residue_type), 1), dtype=np.float32) for t in s.traces] for s in (fit, test)]
    for task in tasks:
        data = [_labelled(s, x, task, slice(0, 1)) for s, x in zip((fit, test), nothing, strict=True)]
        scores, _ = fit_and_score(task, data[0], data[1], blind=True)
        found[task.name, "majority or mean", None, ""] = (scores, 0, None)
    for encoder in encoders:
        features = [side.features(encoder) for side in (fit, test)]
        for task in tasks:
            for readout, columns in encoder.columns(features[0][0].shape[1]).items():
                data = [_labelled(s, x, task, columns) for s, x in zip((fit, test), features, strict=True)]
                scores, chosen = fit_and_score(task, data[0], data[1])
                width = data[0][0][0].shape[1]
                found[task.name, encoder.name, encoder.sigma, readout] = (scores, width, chosen)
        level = "" if encoder.sigma is None else f" at {encoder.sigma:g} angstrom"
        say(f"{encoder.name}{level}: done")
    twins = {(e.name, e.sigma): e.twin for e in encoders if e.twin}
    rows = []
    for (task_name, name, sigma, readout), (scores, width, chosen) in found.items():
        twin = twins.get((name, sigma))
        gain = {}
        if twin:
            gain = intervals(scores, weight_BN, minus=found[task_name, twin, sigma, readout][0])
        rows.append(Row(task_name, name, readout, sigma, width, chosen, intervals(scores, weight_BN), gain))
    return rows
