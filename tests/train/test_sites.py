"""Protein interaction sites: reading of data, scores, the published network and batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from protemb_sdk import clip_windows
from protemb_sdk._base.errors import ProtembError
from protemb_train.corpus.corpus import Trace
from protemb_train.downstream.common.embeddings import Embedded
from protemb_train.downstream.common.metrics import best_f_threshold, binary_scores
from protemb_train.downstream.common.overlap import as_overlap, families, relatives
from protemb_train.downstream.sites import deepppisp
from protemb_train.downstream.sites.batches import (
    ChainTensors,
    ResidueBatches,
    Scaling,
    as_tensors,
    collate,
    validation_split,
    whole,
)
from protemb_train.downstream.sites.data import SiteChain, SitesError, read_sites
from protemb_train.downstream.sites.deepppisp import DeepPPISP, clipped
from protemb_train.downstream.sites.networks import find_network

Written = Callable[..., Path]
LETTERS = "ACDEFGHIKLMNPQRSTVWYX"


# --- data -----------------------------------------------------------------------------------------


def test_irregular_chains_are_reported_and_kept(
    written: Written, labelled: dict[str, Any], traces: list[Trace]
) -> None:
    z = labelled
    first, second, third = (slice(z["offset"][i], z["offset"][i + 1]) for i in range(3))
    z["seq"][first.start] = ord("B")
    z["ca"][second] = -32768
    z["ca"][third.start + 4] = -32768
    z["dssp"], z["dssp_offset"] = np.delete(z["dssp"], 0), np.maximum(z["dssp_offset"] - 1, 0)
    sites = read_sites(written(**z))
    assert len(sites.chains) == len(z["id"])
    assert sites.chains[0].sequence[0] == "X"
    assert [chain.has_coordinates for chain in sites.chains[:3]] == [True, False, True]
    assert np.flatnonzero(~sites.chains[2].seen).tolist() == [4]
    called = "\n".join(sites.notes)
    for part in (
        "0abc_0: residue types B are unknown, and replaced by X",
        "0abc_1: no coordinates",
        "0abc_2: 1 of 31 residues have no coordinates",
        "DSSP states for",
        "padded at the end",
    ):
        assert part in called
    # States are assigned from the first residue; the last residue has none.
    assert sites.chains[0].structure[-1].sum() == 0 and sites.chains[0].structure[0].sum() == 1


def test_a_long_chain_is_truncated_as_published_and_reported(
    written: Written, labelled: dict[str, Any], traces: list[Trace]
) -> None:
    z = labelled
    for name in ("seq", "label", "pssm", "ca", "dssp"):
        z[name] = np.concatenate([z[name], z[name]])
    for name in ("offset", "dssp_offset"):
        z[name][-1] *= 2
    sites = read_sites(written(**z))
    assert len(sites.chains[-1]) > 500 and sites.chains[-1].cut == 500
    assert "DeepPPISP uses the first 500" in sites.notes[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": lambda a: a[:-1]}, "label has .* rows, but the chains have .* residues"),
        ({"label": lambda a: a + 1}, "has labels other than 0 and 1"),
        ({"offset": lambda a: a[:-1]}, "offsets do not match its .* chains"),
        ({"pssm": lambda a: a[:, :3]}, "profile without 20 numbers"),
        ({"pssm": lambda a: np.where(a == 3, np.nan, a)}, "a feature is not finite"),
    ],
)
def test_an_inconsistent_data_set_is_refused(
    written: Written, labelled: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    z = labelled
    ((name, do),) = change.items()
    with pytest.raises(SitesError, match=message):
        read_sites(written(**{name: do(z[name])}))


def test_missing_files_and_unknown_splits_are_refused(written: Written, tmp_path: Path) -> None:
    with pytest.raises(ProtembError, match="the file does not exist"):
        read_sites(tmp_path / "none.npz")
    with pytest.raises(SitesError, match="has no split 'Test_60'; available are test, train"):
        read_sites(written()).of("Test_60")


def a_chain(length: int, seed: int = 0, **changed: Any) -> SiteChain:
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "id": f"made{seed}",
        "split": "train",
        "sequence": "".join(rng.choice(list(LETTERS[:20]), length)),
        "label": rng.random(length) < 0.3,
        "pssm": rng.integers(-12, 14, (length, 20)).astype(np.float32),
        "structure": rng.random((length, 9)).astype(np.float32),
        "ca_coords": rng.normal(size=(length, 3)),
        "cut": length,
    }
    return SiteChain(**values | changed)


def test_labels_longer_than_the_sequence_are_refused() -> None:
    with pytest.raises(SitesError, match="made0: 9 rows of label for 8 residues"):
        a_chain(8, label=np.zeros(9, dtype=bool))


def test_an_embedding_of_wrong_length_or_not_finite_is_refused() -> None:
    chain = a_chain(8)
    with pytest.raises(SitesError, match="made0: 7 embeddings for 8 residues"):
        as_tensors([chain], [Embedded(np.zeros((7, 4), dtype=np.float32), np.zeros(4, dtype=np.float32))])
    spoilt = np.full((8, 4), np.nan, dtype=np.float32)
    with pytest.raises(SitesError, match="not finite"):
        as_tensors([chain], [Embedded(spoilt, np.zeros(4, dtype=np.float32))])


# --- metrics --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 200))
def test_scores_equal_their_definitions_and_scikit_learn(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.random(count) < 0.4
    label[:2] = [True, False]
    probability = np.round(rng.random(count), 2)  # with ties
    threshold = best_f_threshold(label, probability)
    scores = binary_scores(label, probability, threshold)
    called = probability >= threshold
    tp, fp = (called & label).sum(), (called & ~label).sum()
    fn, tn = (~called & label).sum(), (~called & ~label).sum()
    assert scores.precision == pytest.approx(tp / (tp + fp))
    assert scores.recall == pytest.approx(tp / (tp + fn))
    assert scores.accuracy == pytest.approx((tp + tn) / count)
    assert scores.f1 == pytest.approx(2 * tp / (2 * tp + fp + fn))
    under = float(np.sqrt(float(tp + fp) * float(tp + fn) * float(tn + fp) * float(tn + fn)))
    assert scores.mcc == pytest.approx((float(tp) * tn - float(fp) * fn) / under if under else 0.0)
    assert scores.auprc == sklearn_metrics.average_precision_score(label, probability)
    assert scores.auroc == sklearn_metrics.roc_auc_score(label, probability)
    others = [sklearn_metrics.f1_score(label, probability >= t) for t in np.unique(probability)]
    assert scores.f1 == pytest.approx(max(others))


@pytest.mark.parametrize(
    ("label", "probability", "message"),
    [
        ([True, True], [0.1, 0.2], "only one class"),
        ([True, False], [0.1, np.nan], "1 of 2 predictions are not finite"),
        ([True, False], [0.1], "the numbers must be equal"),
    ],
)
def test_predictions_that_cannot_be_scored_are_refused(
    label: list[bool], probability: list[float], message: str
) -> None:
    with pytest.raises(ProtembError, match=message):
        best_f_threshold(np.array(label), np.array(probability))


# --- network --------------------------------------------------------------------------------------


def tensors(lengths: list[int], extra: int = 6) -> list[ChainTensors]:
    chains = [a_chain(length, seed) for seed, length in enumerate(lengths)]
    rng = np.random.default_rng(9)
    vectors = [
        Embedded(rng.normal(size=(n, extra)).astype(np.float32), rng.normal(size=extra).astype(np.float32))
        for n in lengths
    ]
    return as_tensors(chains, vectors, graph=True)


@settings(deadline=None)  # the first call includes compilation by Numba
@given(st.integers(1, 40), st.integers(0, 99))
def test_windows_equal_those_of_the_sdk(length: int, seed: int) -> None:
    residue = np.random.default_rng(seed).normal(size=(length, 5)).astype(np.float32)
    expected = clip_windows(residue, deepppisp.WINDOW).reshape(length, -1)
    found = clipped(torch.from_numpy(residue), torch.arange(length))
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("network", ["deepppisp", "graph"])
def test_logits_do_not_depend_on_the_batch(network: str) -> None:
    chains = tensors([30, 7, 55, 1])
    torch.manual_seed(0)
    model = find_network(network)[0](29, 6, 6).eval()
    with torch.inference_mode():
        together = model(collate(chains, [torch.arange(len(c.label_L)) for c in chains]))
        alone = torch.cat([model(whole(chain)) for chain in chains])
        some = model(collate([chains[2], chains[0]], [torch.tensor([54, 3]), torch.tensor([0])]))
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(some, torch.stack([alone[37 + 54], alone[37 + 3], alone[0]]))


def test_the_global_branch_equals_a_chain_padded_to_500() -> None:
    """The zeros after a chain have the same effect as the padding of the published network."""
    (chain,) = tensors([60])
    torch.manual_seed(1)
    model = DeepPPISP(29, 6, 6).eval()
    with torch.inference_mode():
        batch = whole(chain)
        features = torch.cat([model.types(batch.types_RT), batch.other_RF], dim=1)
        padded = torch.nn.functional.pad(features[:60], (0, 0, 0, 440)).T[None]
        expected = torch.cat([text(padded).relu().amax(dim=2)[0] for text in model.text])  # type: ignore[operator]
        torch.testing.assert_close(model._largest(features, batch)[0], expected)


def test_the_published_one_hot_layer_uses_the_whole_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepppisp, "LONGEST", 40)
    chains = tensors([30, 12])
    torch.manual_seed(2)
    model = DeepPPISP(29, 6, 6, one_hot="chain").eval()
    assert sum(p.numel() for p in model.types.parameters()) == (40 * 20) ** 2 + 40 * 20
    with torch.inference_mode():
        batch = collate(chains, [torch.arange(30), torch.arange(12)], pad_to=40)
        flat = torch.nn.functional.pad(chains[1].types_LT, (0, 0, 0, 28)).flatten()
        expected = model.types.linear(flat).relu().reshape(40, 20)  # type: ignore[union-attr,operator]
        mixed = model.types(batch.types_RT)
        start = int(batch.start_N[1])
        torch.testing.assert_close(mixed[start : start + 40], expected)
        assert (mixed[40 : 40 + deepppisp.GAP] == 0).all()
        assert torch.isfinite(model(batch)).all()


def test_an_epoch_contains_each_residue_once_and_epochs_differ() -> None:
    chains = tensors([300, 20, 131])
    batches = ResidueBatches(chains, seed=3)
    epochs = [[(b.label_M.shape[0], b.place_M.tolist()) for b in batches] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert [sum(size for size, _ in epoch) for epoch in epochs] == [451, 451]
    assert len(epochs[0]) == len(batches)
    again = ResidueBatches(chains, seed=3)
    assert [(b.label_M.shape[0], b.place_M.tolist()) for b in again] == epochs[0]


def test_scaling_is_fitted_on_the_training_chains_and_keeps_gaps_at_zero() -> None:
    chains = tensors([50, 60, 10])
    chains[0].extra_LE[3] = 0.0
    chains[1].extra_LE[:, 2] = 7.0
    chains[0].extra_LE[:3, 2] = chains[0].extra_LE[4:, 2] = 7.0
    scaling = Scaling.of(chains[:2])
    done = [scaling.applied(chain) for chain in chains]
    there = torch.cat([done[0].extra_LE[[*range(3), *range(4, 50)]], done[1].extra_LE])
    keep = [0, 1, 3, 4, 5]
    torch.testing.assert_close(there.mean(dim=0)[keep], torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(there.std(dim=0, correction=0)[keep], torch.ones(5))
    assert (done[0].extra_LE[3] == 0).all() and (there[:, 2] == 0).all()
    assert done[2].extra_LE.abs().max() > 0


def test_the_validation_split_depends_only_on_the_seed() -> None:
    alone = range(352)
    learning, held_out = validation_split(alone, 1 / 7, 0)
    assert len(held_out) == 50 and not set(learning) & set(held_out)
    assert sorted(learning + held_out) == list(range(352))
    assert validation_split(alone, 1 / 7, 0) == (learning, held_out) != validation_split(alone, 1 / 7, 1)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.integers(0, 99))
def test_a_family_is_never_split_between_training_and_validation(family: list[int], seed: int) -> None:
    learning, held_out = validation_split(family, 1 / 7, seed)
    assert held_out and sorted(learning + held_out) == list(range(len(family)))
    assert not {family[i] for i in learning} & {family[i] for i in held_out}


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(SitesError, match="there is no network 'x'; available are deepppisp"):
        find_network("x")


def test_relatives_between_splits_are_counted_and_listed(written: Written, labelled: dict[str, Any]) -> None:
    """Training chains are shuffled copies of the test chains, so only the added chain is a relative."""
    sites = read_sites(written(**labelled))
    test, training = sites.of("test"), sites.of("train")
    assert not relatives(training, test) and len(set(families(training))) == len(training)
    twin = replace(test[1], id="twin", split="train")
    (hit,) = relatives([*training, twin], test)
    assert (hit.query, hit.target) == (1, len(training)) and hit.identity == 1.0
    family = families([*training, twin, test[1]])
    assert family[-1] == family[-2] and len(set(family)) == len(training) + 1
    page = as_overlap([("test", test, "train", [*training, twin]), ("train", training, "train", training)])
    assert f"1 of {len(test)} | {test[1].id} ~ twin (100%)" in page and f"0 of {len(training)}" in page
