"""Model quality by cross-validation over targets, on real models without test targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from protemb_train.corpus.exact import exact_relatives
from protemb_train.downstream.common.embeddings import Embedded
from protemb_train.downstream.common.overlap import families, folds_by_family
from protemb_train.downstream.quality.data import few_per_target, sequences_tested
from protemb_train.downstream.quality.decoys import LOCAL, Decoy, read_decoys
from protemb_train.downstream.quality.scores import residue_scores
from protemb_train.evaluate.measures import Measure, draws_of

LONGEST, MOST, LEAST = 160, 5, 2
"""Largest number of residues of a model, and of models per target: about 200 models in total."""
FOLDS = 5
HIDDEN, DROPOUT, STEPS, BATCH, RATE, DECAY = 64, 0.5, 300, 512, 1e-3, 0.1  # more steps overfit
LARGEST = 5.0
"""Number of standard deviations at which inputs are clipped."""


def real_models(path: Path) -> list[Decoy]:
    """Return the models for the evaluation, without test targets and their relatives."""
    few = few_per_target([d for d in read_decoys(path) if len(d) <= LONGEST], MOST, LEAST)
    relatives = exact_relatives(sequences_tested(path), [d.sequence for d in few])
    return [d for n, d in enumerate(few) if n not in relatives]


class Perceptron(nn.Module):
    """lDDT of a residue from its vector alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, 1)
        )

    def forward(self, x_RC: Tensor) -> Tensor:
        """Return lDDT, 0 to 1, shape (R,)."""
        lddt: Tensor = self.layers(x_RC)[:, 0].sigmoid()
        return lddt


def cross_validated(
    decoys: Sequence[Decoy], embedded: Sequence[Embedded], seeds: Sequence[int]
) -> dict[str, Measure]:
    """Return scores of the residue lDDT predicted by a small perceptron from single vectors.

    Models of a target and of its relatives are in one fold.

    Returns
    -------
    dict of str to Measure
        `lddt_rho`: rank correlation with lDDT within a model, mean over models; `gdt_ts_r`: correlation of
        the mean predicted lDDT with GDT_TS over all models. Means over the seeds; intervals over targets.
    """
    names = sorted({d.target for d in decoys})
    longest = [max((d for d in decoys if d.target == name), key=len) for name in names]
    family = dict(zip(names, families(longest), strict=True))
    of_target = np.array([names.index(d.target) for d in decoys])
    drawn = draws_of(len(names))[:, of_target]
    true = [d.residue_quality[:, LOCAL.index("lddt")] for d in decoys]
    gdt_ts = np.array([d.gdt_ts for d in decoys])
    rho, r = [], []
    for seed in seeds:
        fold_of = folds_by_family([family[d.target] for d in decoys], FOLDS, seed)
        predicted: dict[int, NDArray[np.float32]] = {}
        for fold in range(FOLDS):
            fitted, tested = (np.flatnonzero(side).tolist() for side in (fold_of != fold, fold_of == fold))
            predict = _fitted([embedded[n].residue for n in fitted], [true[n] for n in fitted], seed)
            predicted |= {n: predict(embedded[n].residue) for n in tested}
        rho.append([residue_scores([true[n]], [predicted[n]]).rho_decoy for n in range(len(decoys))])
        r.append(_correlations(gdt_ts, np.array([predicted[n].mean() for n in range(len(decoys))]), drawn))
    within = np.mean(rho, axis=0)
    known = np.isfinite(within)
    values = (drawn[:, known] @ within[known]) / np.maximum(drawn[:, known].sum(axis=1), 1)
    return {"lddt_rho": Measure.of(values), "gdt_ts_r": Measure.of(np.mean(r, axis=0))}


def _fitted(
    residues: list[NDArray[np.float32]], true: list[NDArray[np.float32]], seed: int
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return a function that predicts lDDT of residues, fitted on residues with known lDDT."""
    x, y = torch.from_numpy(np.concatenate(residues)), torch.from_numpy(np.concatenate(true)).float()
    x, y = x[torch.isfinite(y)], y[torch.isfinite(y)]
    mean, spread = x.mean(dim=0), x.std(dim=0)
    spread = torch.where(spread > 1e-6, spread, torch.inf)

    def scaled(values: Tensor) -> Tensor:
        return ((values - mean) / spread).clamp(-LARGEST, LARGEST)

    torch.manual_seed(seed)
    network = Perceptron(x.shape[1])
    adam = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=STEPS)
    x = scaled(x)
    order = torch.cat([torch.randperm(len(x)) for _ in range(-(-STEPS * BATCH // len(x)))])
    for step in range(STEPS):
        part = order[step * BATCH : (step + 1) * BATCH]
        adam.zero_grad()
        F.mse_loss(network(x[part]), y[part]).backward()  # type: ignore[no-untyped-call]
        adam.step()
        cycle.step()
    network.eval()

    def predict(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(network(scaled(torch.from_numpy(vectors))).numpy())

    return predict


def _correlations(
    true: NDArray[np.floating], predicted: NDArray[np.floating], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return Pearson's correlation for each row of weights."""
    known = np.isfinite(true)
    x, y, w = true[known].astype(np.float64), predicted[known].astype(np.float64), weight[:, known]
    total = w.sum(axis=1)
    mean_x, mean_y = w @ x / total, w @ y / total
    covariance = w @ (x * y) / total - mean_x * mean_y
    spread = (w @ x**2 / total - mean_x**2) * (w @ y**2 / total - mean_y**2)
    return np.asarray(covariance / np.sqrt(np.maximum(spread, 1e-12)))
