"""Scores of quality assessment, compared with published values and with their definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from protemb_sdk._base.errors import ProtembError
from protemb_train.downstream.quality.scores import decoy_scores, residue_scores


def test_scores_of_proq3d_on_casp13_equal_the_published_values(shared_data: Path) -> None:
    folder = shared_data / "golden" / "casp13_gdtts"
    truth, predicted_of = (
        {line.split()[0]: float(line.split()[1]) for line in (folder / name).read_text().splitlines()}
        for name in ("truth.tsv", "proq3d.tsv")
    )
    names = [name for name in truth if name in predicted_of]
    assert len(names) == 2983
    # The README of the data calls this column RMSD. The notebook with the published values reads it as GDT_TS
    # in percent, and only this column reproduces them.
    true, predicted = np.array([truth[n] for n in names]) / 100, np.array([predicted_of[n] for n in names])
    target = np.array([name.partition("TS")[0] for name in names])
    found = decoy_scores(true, predicted, target)
    assert round(found.rmse, 5) == 0.12924
    assert round(found.r, 5) == 0.84873
    assert round(found.r_target, 5) == 0.67075
    residues = residue_scores(
        *([of[target == t] for t in np.unique(target)] for of in (true, predicted))
    )  # one list per target instead of one per decoy; the formula is the same
    assert residues.rho == pytest.approx(0.8096021065856308, abs=1e-9)
    assert residues.rho_decoy == pytest.approx(0.6190628519391197, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 5), st.integers(3, 30), st.integers(0, 999))
def test_scores_equal_their_definitions(targets: int, decoys: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.repeat(np.arange(targets), decoys))
    true, predicted = rng.random(len(target)), rng.random(len(target))
    found = decoy_scores(true, predicted, target)
    assert found.rmse == pytest.approx(np.sqrt(((true - predicted) ** 2).mean()))
    assert found.r == pytest.approx(np.corrcoef(true, predicted)[0, 1])
    r, z, frl, frl5 = [], [], [], []
    for t in range(targets):
        a, b = true[target == t], predicted[target == t]
        r.append(np.corrcoef(a, b)[0, 1])
        z.append(stats.zscore(a)[b.argmax()])
        frl.append(a.max() - a[b.argmax()])
        frl5.append(a.max() - a[np.argsort(b)[-5:]].max())
    expected = [np.mean(of) for of in (r, z, frl, frl5)]
    assert [found.r_target, found.z, found.frl, found.frl5] == pytest.approx(expected)
    perfect = decoy_scores(true, true, target)
    assert (perfect.rmse, perfect.frl, perfect.frl5) == (0, 0, 0) and perfect.r_target == pytest.approx(1)


def test_models_without_a_true_score_are_ignored() -> None:
    true = np.array([0.1, 0.5, np.nan, 0.3, 0.9])
    predicted = np.array([0.2, 0.4, 0.9, 0.3, 0.8])
    target = np.array(["a", "a", "a", "a", "b"])
    found = decoy_scores(true, predicted, target)
    assert found == decoy_scores(np.delete(true, 2), np.delete(predicted, 2), np.delete(target, 2))
    # A target with one decoy has no correlation and no z-score; its first-rank loss is 0.
    assert found.r_target == pytest.approx(stats.pearsonr([0.1, 0.5, 0.3], [0.2, 0.4, 0.3]).statistic)
    residues = residue_scores([true], [np.append(predicted[:4], 0.1)])
    assert residues.rho == residues.rho_decoy == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([0.1, 0.2], [0.1], "2 true scores, 1 predictions"),
        ([0.1, 0.2], [0.1, np.inf], "1 predictions are not finite"),
        ([np.nan, 0.2], [0.1, 0.1], "1 decoys have a true score"),
    ],
)
def test_predictions_that_cannot_be_scored_are_refused(
    true: list[float], predicted: list[float], message: str
) -> None:
    with pytest.raises(ProtembError, match=message):
        decoy_scores(np.array(true), np.array(predicted), np.zeros(2))
    with pytest.raises(ProtembError):
        residue_scores([np.array(true)], [np.array(predicted)])
