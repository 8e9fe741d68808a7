"""PPI sites: data with faults, the published network, both protocols, the table, and the predictor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from protemb_sdk import clip_windows
from protemb_sdk._errors import ProtembError
from protemb_train.corpus import Trace
from protemb_train.downstream.metrics import best_f_threshold, binary_scores
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
from protemb_train.downstream.sites.embeddings import Embedded, NoEncoder, StructureEncoder, embed_all
from protemb_train.downstream.sites.head import SiteHead
from protemb_train.downstream.sites.networks import find_network
from protemb_train.downstream.sites.predictor import load_predictor, save_predictor, train_predictor
from protemb_train.downstream.sites.rows import Row, read_rows, run_row
from protemb_train.downstream.sites.table import as_table, paired, scores_of

LETTERS = "ACDEFGHIKLMNPQRSTVWYX"


# --- data -----------------------------------------------------------------------------------------


def arrays_of(traces: list[Trace], copies: int = 3) -> dict[str, Any]:
    """Return DeepPPISP's layout for real chains; residues near the tip of a chain are its sites."""
    rng = np.random.default_rng(0)
    found: dict[str, list[Any]] = {name: [] for name in ("seq", "label", "pssm", "ca", "dssp")}
    ids, split = [], []
    for copy in range(copies):
        for n, trace in enumerate(traces):
            length = len(trace.residue_type)
            types = rng.permutation(trace.residue_type) if copy else trace.residue_type
            found["seq"].append(np.frombuffer("".join(LETTERS[t] for t in types).encode(), dtype=np.uint8))
            far = np.linalg.norm(trace.ca_coords - trace.ca_coords.mean(axis=0), axis=1)
            found["label"].append((far > np.quantile(far, 0.8)).astype(np.uint8))
            found["pssm"].append(rng.integers(-12, 14, (length, 20)).astype(np.int8))
            found["ca"].append(np.rint(trace.ca_coords * 100).astype(np.int16))
            found["dssp"].append(rng.integers(0, 9, length).astype(np.uint8))
            ids.append(f"{copy}abc_{n}")
            split.append("test" if copy == 0 else "train")
    offset = np.cumsum([0, *(len(s) for s in found["seq"])])
    flat = {name: np.concatenate(parts) for name, parts in found.items()}
    return flat | {
        "offset": offset,
        "dssp_offset": offset.copy(),
        "id": np.array(ids),
        "split": np.array(split),
    }


Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path, traces: list[Trace]) -> Written:
    def write(**changed: Any) -> Path:
        path = tmp_path / "deepppisp.npz"
        np.savez(path, **arrays_of(traces) | changed)
        return path

    return write


def test_what_is_odd_in_a_set_is_named_and_nothing_is_dropped(written: Written, traces: list[Trace]) -> None:
    z = arrays_of(traces)
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
    said = "\n".join(sites.notes)
    for part in (
        "0abc_0: residue types B are not known, and read as X",
        "0abc_1: no coordinates",
        "0abc_2: 1 of 31 residues have no coordinates",
        "DSSP states for",
        "filled with none at the end",
    ):
        assert part in said
    # Read from the first residue on; the last one has none.
    assert sites.chains[0].structure[-1].sum() == 0 and sites.chains[0].structure[0].sum() == 1


def test_a_long_chain_is_cut_as_published_and_says_so(written: Written, traces: list[Trace]) -> None:
    z = arrays_of(traces)
    for name in ("seq", "label", "pssm", "ca", "dssp"):
        z[name] = np.concatenate([z[name], z[name]])
    for name in ("offset", "dssp_offset"):
        z[name][-1] *= 2
    sites = read_sites(written(**z))
    assert len(sites.chains[-1]) > 500 and sites.chains[-1].cut == 500
    assert "DeepPPISP sees the first 500" in sites.notes[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": lambda a: a[:-1]}, "label has .* rows where the chains have .* residues"),
        ({"label": lambda a: a + 1}, "has labels other than 0 and 1"),
        ({"offset": lambda a: a[:-1]}, "offsets do not match its .* chains"),
        ({"pssm": lambda a: a[:, :3]}, "profile that is not 20 numbers"),
        ({"pssm": lambda a: np.where(a == 3, np.nan, a)}, "a feature is not finite"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(
    written: Written, traces: list[Trace], change: dict[str, Any], message: str
) -> None:
    z = arrays_of(traces)
    ((name, do),) = change.items()
    with pytest.raises(SitesError, match=message):
        read_sites(written(**{name: do(z[name])}))


def test_a_missing_file_and_a_missing_split_are_sentences(written: Written, tmp_path: Path) -> None:
    with pytest.raises(ProtembError, match="no such file"):
        read_sites(tmp_path / "none.npz")
    with pytest.raises(SitesError, match="has no split 'Test_60'; there are test, train"):
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


def test_an_embedding_of_another_length_or_not_finite_is_refused() -> None:
    chain = a_chain(8)
    with pytest.raises(SitesError, match="made0: 7 embeddings for 8 residues"):
        as_tensors([chain], [Embedded(np.zeros((7, 4), dtype=np.float32), np.zeros(4, dtype=np.float32))])
    spoilt = np.full((8, 4), np.nan, dtype=np.float32)
    with pytest.raises(SitesError, match="not finite"):
        as_tensors([chain], [Embedded(spoilt, np.zeros(4, dtype=np.float32))])


# --- metrics --------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(4, 200))
def test_scores_are_those_of_scikit_learn_and_of_their_definitions(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.random(count) < 0.4
    label[:2] = [True, False]
    probability = np.round(rng.random(count), 2)  # with ties
    threshold = best_f_threshold(label, probability)
    scores = binary_scores(label, probability, threshold)
    said = probability >= threshold
    tp, fp = (said & label).sum(), (said & ~label).sum()
    fn, tn = (~said & label).sum(), (~said & ~label).sum()
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
        ([True, False], [0.1], "do not belong together"),
    ],
)
def test_what_cannot_be_scored_is_refused(label: list[bool], probability: list[float], message: str) -> None:
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
    return as_tensors(chains, vectors)


@settings(deadline=None)  # Numba compiles at the first call
@given(st.integers(1, 40), st.integers(0, 99))
def test_windows_are_those_of_the_sdk(length: int, seed: int) -> None:
    residue = np.random.default_rng(seed).normal(size=(length, 5)).astype(np.float32)
    expected = clip_windows(residue, deepppisp.WINDOW).reshape(length, -1)
    found = clipped(torch.from_numpy(residue), torch.arange(length))
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("network", ["deepppisp", "head"])
def test_a_residue_has_the_same_logit_alone_and_among_others(network: str) -> None:
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
    """The gap after a chain stands for all of the published padding."""
    (chain,) = tensors([60])
    torch.manual_seed(1)
    model = DeepPPISP(29, 6, 6).eval()
    with torch.inference_mode():
        batch = whole(chain)
        features = torch.cat([model.types(batch.types_RT), batch.other_RF], dim=1)
        padded = torch.nn.functional.pad(features[:60], (0, 0, 0, 440)).T[None]
        expected = torch.cat([text(padded).relu().amax(dim=2)[0] for text in model.text])  # type: ignore[operator]
        torch.testing.assert_close(model._largest(features, batch)[0], expected)


def test_the_published_one_hot_layer_sees_the_whole_chain(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_epoch_holds_every_residue_once_and_differs_from_the_next() -> None:
    chains = tensors([300, 20, 131])
    batches = ResidueBatches(chains, seed=3)
    epochs = [[(b.label_M.shape[0], b.place_M.tolist()) for b in batches] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert [sum(size for size, _ in epoch) for epoch in epochs] == [451, 451]
    assert len(epochs[0]) == len(batches)
    again = ResidueBatches(chains, seed=3)
    assert [(b.label_M.shape[0], b.place_M.tolist()) for b in again] == epochs[0]


def test_embeddings_are_scaled_on_the_learning_chains_alone_and_gaps_stay_zero() -> None:
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


def test_validation_chains_are_whole_and_depend_on_the_seed_alone() -> None:
    learning, held_out = validation_split(352, 1 / 7, 0)
    assert len(held_out) == 50 and not set(learning) & set(held_out)
    assert sorted(learning + held_out) == list(range(352))
    assert validation_split(352, 1 / 7, 0) == (learning, held_out) != validation_split(352, 1 / 7, 1)


# --- rows, table, predictor -----------------------------------------------------------------------


@pytest.fixture
def split(written: Written) -> tuple[list[SiteChain], list[SiteChain]]:
    sites = read_sites(written())
    return sites.of("train"), sites.of("test")


def test_a_row_is_kept_resumed_and_the_same_for_the_same_seed(
    split: tuple[list[SiteChain], list[SiteChain]], tmp_path: Path
) -> None:
    row = Row(name="none", encoder=NoEncoder(), make=SiteHead, options={"epochs": 2})
    first = list(run_row(row, *split, tmp_path / "a", seeds=[0, 1]))
    assert len(first) == 2 and not list(run_row(row, *split, tmp_path / "a", seeds=[0, 1]))
    again = list(run_row(row, *split, tmp_path / "b", seeds=[1]))
    for x, y in zip(first[1].test, again[0].test, strict=True):
        np.testing.assert_array_equal(x, y)
    assert first[0].curve[-1]["loss"] < first[0].curve[0]["loss"]
    kept = read_rows(tmp_path / "a")["none"]
    assert [k.record["seed"] for k in kept] == [0, 1]
    np.testing.assert_array_equal(kept[1].test_probability, np.concatenate(first[1].test))
    assert kept[0].test_length.tolist() == [len(chain) for chain in split[1]]


def test_the_table_holds_both_protocols_and_a_difference_that_is_there(
    split: tuple[list[SiteChain], list[SiteChain]], tmp_path: Path
) -> None:
    """A row that is told the answer must come out ahead of one that is told nothing."""

    class Told:
        about = {"encoder": "told"}  # noqa: RUF012

        def embed(self, chain: SiteChain) -> Embedded:
            residue = chain.label[:, None].astype(np.float32) + 1
            return Embedded(residue, residue.mean(axis=0))

    for name, encoder in (("none", NoEncoder()), ("told", Told())):
        row = Row(name=name, encoder=encoder, make=SiteHead, options={"epochs": 4})
        list(run_row(row, *split, tmp_path, seeds=range(3)))
    rows = read_rows(tmp_path)
    difference = paired(rows, "told", "none", "auprc")
    assert difference is not None and difference.seeds[0] > 0 and difference.chains[0] > 0
    for kept in rows["told"]:
        clean, paper = scores_of(kept, "clean"), scores_of(kept, "paper")
        assert paper.f1 >= clean.f1 and paper.auprc == clean.auprc
    page = as_table(rows, ["none"])
    for part in (
        "Protocol *paper*",
        "Protocol *clean*",
        "| told |",
        "paper: BC-100",
        "| none | encoder none",
    ):
        assert part in page
    with pytest.raises(SitesError, match="no row 'best'; there are none, told"):
        as_table(rows, ["best"])


def test_embeddings_come_from_the_sdk_and_are_kept(
    split: tuple[list[SiteChain], list[SiteChain]], tmp_path: Path
) -> None:
    encoder = StructureEncoder("base", ("mean", "contact"), threads=1)
    chains = split[1][:2]
    chains[0].ca_coords[5] = np.nan
    (first, second), again = (embed_all(encoder, chains, tmp_path / "cache") for _ in range(2))
    assert first.residue.shape == (len(chains[0]), 128) and (first.residue[5] == 0).all()
    np.testing.assert_array_equal(again[1].residue, second.residue)
    direct = encoder.embedder.embed((chains[1].ca_coords, chains[1].sequence))
    np.testing.assert_array_equal(second.residue[:, :64], direct.residue)
    chains[1].ca_coords[:] = np.nan
    with pytest.raises(SitesError, match="has no coordinates"):
        encoder.embed(chains[1])


def test_a_predictor_is_calibrated_measured_and_read_back(
    split: tuple[list[SiteChain], list[SiteChain]], tmp_path: Path
) -> None:
    encoder = StructureEncoder("base", ("mean", "contact"), threads=1)
    trained = train_predictor(split[0], encoder, {"test": split[1]}, heads=2)
    quality = trained.card["quality"]["test"]
    assert quality["auprc"] > quality["prevalence"]
    assert 0 < trained.card["threshold"] < 1
    save_predictor(trained, tmp_path / "sites.ckpt")
    again = load_predictor(tmp_path / "sites.ckpt")
    assert again.card == trained.card
    features, types = torch.randn(9, 2, 64), torch.arange(9)
    with torch.inference_mode():
        torch.testing.assert_close(again.model(features, types), trained.model(features, types))
    (tmp_path / "other.ckpt").write_bytes(b"nothing")
    with pytest.raises(ProtembError):
        load_predictor(tmp_path / "other.ckpt")


def test_an_unknown_network_is_a_sentence() -> None:
    with pytest.raises(SitesError, match="no network named 'x'; there are deepppisp"):
        find_network("x")
