"""Labels of models: properties of GDT, TM-score and lDDT, and comparison with the shared data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from protemb_sdk._base.errors import ProtembError
from protemb_train.corpus.alignment import aligned
from protemb_train.corpus.corpus import Trace
from protemb_train.downstream.quality.labels import GDT_TS, lddt, superpose, superposed_scores


def moved(coords: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return coords @ Rotation.random(rng=seed).as_matrix().T + rng.normal(size=3) * 50


@settings(deadline=None, max_examples=20)
@given(st.integers(5, 60), st.floats(0, 6), st.integers(0, 99))
def test_scores_are_invariant_to_rotation_and_translation(length: int, noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    native = rng.normal(size=(length, 3)).cumsum(axis=0) * 2.2
    model = native + noise * rng.normal(size=native.shape)
    first, second = superposed_scores(model, native), superposed_scores(moved(model, seed), native)
    # A distance equal to a threshold may be counted or not, depending on rounding.
    assert first.gdt_ts == pytest.approx(second.gdt_ts, abs=1.01 / length)
    assert first.tm_score == pytest.approx(second.tm_score, abs=1e-3)
    np.testing.assert_allclose(lddt(model, native), lddt(moved(model, seed), native), atol=0.26)
    for score in (first.gdt_ts, first.gdt_ha, first.tm_score):
        assert 0 < score <= 1
    # The score is not lower than that of the least-squares superposition.
    (fitted,) = superpose(model, native, np.ones((1, length)))
    apart = np.linalg.norm(fitted - native, axis=1)
    assert first.gdt_ts >= np.mean([(apart <= t).mean() for t in GDT_TS]) - 1e-9
    assert first.gdt_ha <= first.gdt_ts


def test_a_native_has_perfect_scores(traces: list[Trace]) -> None:
    native = traces[0].ca_coords.astype(np.float64)
    same = superposed_scores(moved(native, 1), native)
    assert (same.gdt_ts, same.gdt_ha) == (1, 1) and same.tm_score == pytest.approx(1)
    np.testing.assert_allclose(lddt(moved(native, 1), native), 1)
    mirrored = superposed_scores(native * [1, 1, -1], native)
    assert mirrored.gdt_ts < 0.6 and mirrored.tm_score < 0.6
    # Residues missing in the model count as wrong.
    half = len(native) // 2
    part = superposed_scores(native[:half], native[:half], len(native))
    assert part.gdt_ts == pytest.approx(half / len(native))


def test_superposition_finds_one_half_of_a_hinge_motion(traces: list[Trace]) -> None:
    """The whole chain cannot be superposed; the search must find one half."""
    native = traces[0].ca_coords.astype(np.float64)
    half = len(native) // 2
    model = native.copy()
    model[half:] = (native[half:] - native[half]) @ Rotation.from_euler("x", 120, degrees=True).as_matrix()
    model[half:] += native[half] + [25.0, 0, 0]
    assert superposed_scores(model, native).gdt_ts >= half / len(native)
    local = lddt(model, native)
    assert np.nanmean(local) > 0.6


def test_lddt_is_low_only_near_the_error(traces: list[Trace]) -> None:
    native = traces[0].ca_coords.astype(np.float64)
    model = native.copy()
    model[10] += [30.0, 0, 0]
    local = lddt(model, native)
    assert local[10] == 0
    far = np.linalg.norm(native - native[10], axis=1) >= 15
    np.testing.assert_allclose(local[far], 1)
    assert (local[~far] < 1).all()
    alone = np.array([[0.0, 0, 0], [3.8, 0, 0], [100.0, 0, 0]])
    assert np.isnan(lddt(alone, alone)[2])


@pytest.mark.parametrize(
    ("model", "native", "message"),
    [
        (np.zeros((4, 3)), np.zeros((5, 3)), r"pass \(L, 3\) each"),
        (np.zeros((1, 3)), np.zeros((1, 3)), "share 1 residues"),
        (np.full((4, 3), np.nan), np.zeros((4, 3)), "is not finite"),
    ],
)
def test_coordinates_that_cannot_be_compared_are_refused(
    model: np.ndarray, native: np.ndarray, message: str
) -> None:
    for score in (superposed_scores, lddt):
        with pytest.raises(ProtembError, match=message):
            score(model, native)
    with pytest.raises(ProtembError, match="check the length"):
        superposed_scores(np.eye(3), np.eye(3), 2)


def test_labels_agree_with_those_of_the_shared_models(shared_data: Path) -> None:
    """In the shared data coordinates are rounded to 0.02 angstrom and lDDT of residues to 0.005."""
    z = dict(np.load(shared_data / "qa" / "decoys.npz"))
    native = dict(np.load(shared_data / "native" / "corpus.npz"))
    place = {str(name): k for k, name in enumerate(native["ids"])}
    found = []
    for i in np.flatnonzero(z["source"] == "af2rank_fs")[::6]:
        entry, chain = z["target_name"][z["target"][i]].split("/")[1].split("_")
        k = place.get(f"{entry.upper()}_{chain}")
        if k is None:
            continue
        here, there = slice(*z["offset"][i : i + 2]), slice(*native["offsets"][k : k + 2])
        if z["seq"][here].tobytes() != native["seq"][there].tobytes():
            continue
        model = z["ca"][here] * 0.02
        truth = native["dxyz_milliA"][there].astype(np.int64).cumsum(axis=0) / 1000
        local = lddt(model, truth)
        np.testing.assert_allclose(local, z["lddt_residue"][here] / 200, atol=0.04)
        found.append(
            (z["gdt_ts"][i], superposed_scores(model, truth).gdt_ts, z["lddt"][i], np.nanmean(local))
        )
    assert len(found) > 20
    label, ours, label_lddt, ours_lddt = np.array(found).T
    assert np.corrcoef(label, ours)[0, 1] > 0.999
    # The superposition found is as good as the one of the shared data, or better.
    assert (ours - label).min() > -0.015 and (ours - label).max() < 0.02
    np.testing.assert_allclose(ours_lddt, label_lddt, atol=2.5e-3)


def test_labels_agree_with_those_of_casp12_for_available_natives(shared_data: Path) -> None:
    """The corpus has 2 of the 23 natives. One is another chain of the crystal, so lDDT is not compared."""
    z = dict(np.load(shared_data / "qa" / "decoys.npz"))
    native = dict(np.load(shared_data / "native" / "corpus.npz"))
    place = {str(name): k for k, name in enumerate(native["ids"])}
    for target, entry in (("T0921D1", "5AOZ_A"), ("T0922D1", "5M2O_B")):
        there = slice(*native["offsets"][place[entry] : place[entry] + 2])
        truth = native["dxyz_milliA"][there].astype(np.int64).cumsum(axis=0) / 1000
        label, ours = [], []
        for i in np.flatnonzero(z["target_name"][z["target"]] == f"casp12_korp/{target}"):
            here = slice(*z["offset"][i : i + 2])
            letters = [side.tobytes().decode() for side in (z["seq"][here], native["seq"][there])]
            placed = aligned(*letters)
            shared = np.flatnonzero(placed >= 0)
            assert len(shared) == len(letters[0])
            model = z["ca"][here][shared] * 0.02
            label.append(z["gdt_ts"][i])
            ours.append(superposed_scores(model, truth[placed[shared]], int(z["native_length"][i])).gdt_ts)
        assert len(label) > 10 and np.corrcoef(label, ours)[0, 1] > 0.999
        np.testing.assert_allclose(ours, label, atol=0.015)
