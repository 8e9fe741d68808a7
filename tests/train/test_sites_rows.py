"""Protein interaction sites: rows and their table, pre-training of heads, fine-tuning, the predictor."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics

from protemb_sdk import EmbeddingError, ProtembError
from protemb_train.corpus.corpus import Trace
from protemb_train.downstream.common.embeddings import Embedded, NoEncoder, StructureEncoder, embed_all
from protemb_train.downstream.common.metrics import best_f_threshold
from protemb_train.downstream.sites.batches import Scaling, as_tensors
from protemb_train.downstream.sites.bootstrap import DRAWS, drawn_scores
from protemb_train.downstream.sites.cuts import CutRule, cut_chain
from protemb_train.downstream.sites.data import SiteChain, SitesError
from protemb_train.downstream.sites.deepppisp import DeepPPISP
from protemb_train.downstream.sites.finetune import EndToEnd, fine_tuned
from protemb_train.downstream.sites.graph import GraphHead
from protemb_train.downstream.sites.networks import GRAPH_RECIPE, TRAINED_STATES, find_network
from protemb_train.downstream.sites.predictor import load_predictor, save_predictor, train_predictor
from protemb_train.downstream.sites.rows import Row, read_rows, run_row
from protemb_train.downstream.sites.start import load_start, save_start, train_on_cuts
from protemb_train.downstream.sites.table import SCORES, Compared, as_table, paired, scores_of
from protemb_train.downstream.sites.trained_states import HeadOnTrainedStates, MessageStates
from protemb_train.downstream.sites.training import Recipe, predict, started, train
from protemb_train.network.checkpoint import load_network

BASE_CHECKPOINT = Path(__file__).resolve().parents[2] / "train" / "results" / "base-1.ckpt"


def quick(epochs: int, lr: float = 1e-2) -> Recipe:
    return replace(GRAPH_RECIPE, epochs=epochs, learning_rate=lr, chains_a_batch=2)


def test_a_row_is_saved_resumed_and_reproducible(
    split: tuple[list[SiteChain], list[SiteChain]], tmp_path: Path
) -> None:
    row = Row(name="none", encoder=NoEncoder(), make=GraphHead, recipe=quick(2))
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


def test_finished_seeds_with_different_settings_are_refused(
    split: tuple[list[SiteChain], list[SiteChain]], tmp_path: Path
) -> None:
    row = Row(name="none", encoder=NoEncoder(), make=GraphHead, recipe=quick(1))
    about = {"network": "graph", "data": "a.npz", "test": ["test"]}

    def run(row: Row = row, split: tuple[list[SiteChain], ...] = split, **changed: object) -> list[object]:
        return list(run_row(row, split[0], split[1], tmp_path, seeds=[0, 1], about=about | changed))

    run()
    path = tmp_path / "none" / "seed-1.npz"
    before = path.read_bytes()
    assert run(data="renamed.npz") == []
    encoder = StructureEncoder("base", threads=1)
    moved = [replace(split[0][0], label=~split[0][0].label), *split[0][1:]]
    for argument, call in (
        ("encoder", lambda: run(replace(row, encoder=encoder))),
        ("features", lambda: run(replace(row, features=False))),
        ("recipe", lambda: run(replace(row, recipe=quick(2)))),
        ("network", lambda: run(network="deepppisp")),
        ("chains_sha256", lambda: run(split=(moved, split[1]))),
        ("test", lambda: run(test=["other"])),
    ):
        with pytest.raises(
            SitesError, match=rf"seed-0\.npz: was trained with different settings \({argument}\)"
        ):
            call()
    # Records of an older version have fewer fields.
    z = dict(np.load(path))
    record = json.loads(str(z["record"]))
    for name in ("recipe", "chains_sha256", "network", "test"):
        del record[name]
    np.savez(path, **z | {"record": np.array(json.dumps(record))})
    assert run() == [] and len(read_rows(tmp_path)["none"]) == 2
    with pytest.raises(SitesError, match=r"different settings \(number of chains"):
        list(run_row(row, split[0][1:], split[1], tmp_path, seeds=[1]))
    # A seed with another encoder is not accepted in the table either.
    record["encoder"] = {"encoder": "old"}
    np.savez(path, **z | {"record": np.array(json.dumps(record))})
    with pytest.raises(SitesError, match=r"its seeds 0 and 1 were trained with different settings \(encoder"):
        read_rows(tmp_path)
    for content in (b"", before[: len(before) // 2]):
        path.write_bytes(content)
        with pytest.raises(SitesError, match="remove it to train this seed again") as refused:
            run()
        assert refused.value.where == str(path)
    with pytest.raises(SitesError, match="train some with protemb-train sites row"):
        read_rows(tmp_path / "nowhere")


def test_the_table_has_both_protocols_and_a_significant_difference(
    split: tuple[list[SiteChain], list[SiteChain]], tmp_path: Path
) -> None:
    """A row with the labels as input has a higher score than a row without an encoder."""

    class Told:
        about = {"encoder": "told"}  # noqa: RUF012

        def embed(self, chain: SiteChain) -> Embedded:
            residue = chain.label[:, None].astype(np.float32) + 1
            return Embedded(residue, residue.mean(axis=0))

    for name, encoder in (("none", NoEncoder()), ("told", Told())):
        row = Row(name=name, encoder=encoder, make=GraphHead, recipe=quick(6))
        list(run_row(row, *split, tmp_path, seeds=range(3)))
    rows = read_rows(tmp_path)
    difference = paired(Compared.of(rows["told"]), Compared.of(rows["none"]), "auprc")
    assert difference is not None and difference.seeds[0] > 0 and difference.samples[0] > 0
    for kept in rows["told"]:
        clean, paper = scores_of(kept, "clean"), scores_of(kept, "paper")
        assert paper.f1 >= clean.f1 and paper.auprc == clean.auprc
    page, values = as_table(rows, ["none"])
    assert values["differences"]["none"]["told"]["auprc"] == difference.as_dict()
    assert set(values["scores"]["clean"]["told"]) == set(SCORES)
    for part in (
        "F, paper",
        "F, clean",
        "| told |",
        "paper: BC-100",
        "| none | none | yes |",
    ):
        assert part in page
    with pytest.raises(SitesError, match="no row 'best'; available are none, told"):
        as_table(rows, ["best"])


def test_embeddings_are_computed_by_the_sdk_and_cached(
    split: tuple[list[SiteChain], list[SiteChain]], tmp_path: Path
) -> None:
    encoder = StructureEncoder("base", ("mean", "contact"), threads=1)
    chains = split[1][:2]
    chains[0].ca_coords[5] = np.nan
    (first, second), again = (embed_all(encoder, chains, tmp_path / "cache") for _ in range(2))
    assert first.residue.shape == (len(chains[0]), 128) and (first.residue[5] == 0).all()
    np.testing.assert_array_equal(again[1].residue, second.residue)
    direct = encoder.embedder.embed((chains[1].ca_coords, chains[1].sequence), readouts=["mean"])
    np.testing.assert_array_equal(second.residue[:, :64], direct.readouts["mean"])
    chains[1].ca_coords[:] = np.nan
    with pytest.raises(EmbeddingError, match="has no coordinates"):
        encoder.embed(chains[1])


def test_cached_residue_vectors_belong_to_their_contents(states_path: Path) -> None:
    """The same weights can be exported with other contents."""
    about = [StructureEncoder(str(states_path), (name,), threads=1).about for name in ("residue", "mean")]
    contents = StructureEncoder(str(states_path), threads=1).embedder.card["residue"]
    assert [of.get("contents") for of in about] == [contents, None]


def test_scores_of_bootstrap_samples_agree_with_scikit_learn(
    split: tuple[list[SiteChain], list[SiteChain]], tmp_path: Path
) -> None:
    row = Row(name="none", encoder=NoEncoder(), make=GraphHead, recipe=quick(1))
    list(run_row(row, *split, tmp_path, seeds=range(2)))
    kept = read_rows(tmp_path)["none"]
    # Rounding creates ties.
    kept = [replace(k, test_probability=np.round(k.test_probability, 2)) for k in kept]
    found = drawn_scores(kept)
    chains = len(kept[0].test_id)
    draw = np.random.default_rng(0).integers(0, chains, (DRAWS, chains))
    ends = np.cumsum(kept[0].test_length)
    for n in (0, 17):
        place = np.concatenate([np.arange(ends[c] - kept[0].test_length[c], ends[c]) for c in draw[n]])
        label = kept[0].test_label[place]
        auprc, mcc = [], []
        for k in kept:
            threshold = best_f_threshold(k.validation_label, k.validation_probability)
            auprc.append(metrics.average_precision_score(label, k.test_probability[place]))
            mcc.append(metrics.matthews_corrcoef(label, k.test_probability[place] >= threshold))
        assert found["auprc"][n] == pytest.approx(np.mean(auprc), abs=1e-9)
        assert found["mcc"][n] == pytest.approx(np.mean(mcc), abs=1e-9)


def test_pretrained_weights_are_saved_and_used_as_the_start_of_training(
    traces: list[Trace], tmp_path: Path
) -> None:
    rule = CutRule(shortest=25, rest=20, packed=0.5, sites=(0.04, 0.7))
    pieces = [piece for trace in traces for piece in cut_chain(trace, rule)]
    encoder = StructureEncoder("base", ("mean", "contact"), threads=1)
    made = train_on_cuts(pieces, encoder, GraphHead, quick(3), network="graph")
    save_start(made, tmp_path / "start.pt")
    again = load_start(tmp_path / "start.pt")
    assert again.about == made.about
    again.check("graph", encoder)
    for network, other in (("deepppisp", encoder), ("graph", NoEncoder())):
        with pytest.raises(SitesError, match="the start was made with"):
            again.check(network, other)
    with pytest.raises(ProtembError):
        load_start(Path(__file__))
    # PSSM and DSSP were not used in pre-training. Initially the output is the same as without them.
    chains = as_tensors(pieces, embed_all(encoder, pieces), graph=True)
    network = GraphHead(29, 128, 128)
    scaling = started(network, again.start, Scaling.of(chains, features=True))
    plain = GraphHead(0, 128, 128)
    plain.load_state_dict(again.start.state)
    first = scaling.applied(chains[0])
    (found,) = predict(network, [first])
    (expected,) = predict(plain, [replace(first, other_LF=first.other_LF[:, :0])])
    np.testing.assert_array_equal(found, expected)
    # Without labels the output is that of pre-training on pieces.
    make, recipe = find_network("graph-unlabelled")
    bare = [replace(c, other_LF=c.other_LF[:, :0]) for c in chains]
    unlabelled = train(make, bare, bare[:1], bare[:1], recipe, seed=3, start=again.start)
    np.testing.assert_array_equal(unlabelled.test[0], expected)
    with pytest.raises(SitesError, match="of other embeddings or readouts"):
        started(GraphHead(0, 64, 64), again.start, scaling)


def test_fine_tuning_starts_from_the_row_and_changes_the_encoder(
    split: tuple[list[SiteChain], list[SiteChain]],
) -> None:
    encoder, _ = load_network(BASE_CHECKPOINT)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    source = StructureEncoder("base-1", threads=1)
    sides = [[c for c in side if len(c) < 100] for side in split]
    learning, test = (as_tensors(side, embed_all(source, side)) for side in sides)
    run = train(DeepPPISP, learning, learning[:1], test, quick(1), seed=0)
    frozen = EndToEnd(encoder, 1.0, run.network, run.scaling).eval()
    with torch.inference_mode():
        (same,) = predict(frozen, [run.scaling.applied(replace(test[0], extra_LE=test[0].extra_LE))])
    np.testing.assert_allclose(same, run.test[0], atol=1e-3)
    tuned = fine_tuned(run, encoder, 1.0, learning, learning[:1], test, seed=0, recipe=quick(1, lr=1e-3))
    assert len(tuned.curve) == 2
    assert np.abs(tuned.test[0] - run.test[0]).max() > 1e-3
    moved = {n for n, w in tuned.network.encoder.state_dict().items() if not torch.equal(w, before[n])}  # type: ignore[union-attr,operator]
    assert any("blocks" in name for name in moved) and any("stem" in name for name in moved)
    assert all(torch.equal(w, before[n]) for n, w in encoder.state_dict().items())
    other, _ = load_network(BASE_CHECKPOINT)
    with torch.no_grad():
        other.blocks[0].conv2.weight.add_(torch.randn(other.blocks[0].conv2.weight.shape))  # type: ignore[union-attr,operator]
    with pytest.raises(SitesError, match="not from the network to be fine-tuned"):
        fine_tuned(run, other, 1.0, learning, learning[:1], test, seed=0)


def test_states_are_trained_with_the_head(split: tuple[list[SiteChain], list[SiteChain]]) -> None:
    encoder, _ = load_network(BASE_CHECKPOINT.with_name("base.ckpt"))
    source = StructureEncoder("base", ("residue",), threads=1)
    sides = [[c for c in side if len(c) < 100][:2] for side in split]
    learning, test = (as_tensors(side, embed_all(source, side), graph=True) for side in sides)
    make = partial(HeadOnTrainedStates, encoder)
    recipe = replace(TRAINED_STATES, epochs=2)
    run = train(make, learning, learning[:1], test, recipe, seed=0)
    fresh = make(0, learning[0].extra_LE.shape[1], 0).encoder
    moved = dict(run.network.encoder.named_parameters())  # type: ignore[union-attr,operator]
    assert any(not torch.equal(w, moved[n]) for n, w in fresh.named_parameters() if "before" in n)
    assert any(not torch.equal(w, moved[n]) for n, w in fresh.named_parameters() if "after" in n)
    still = replace(recipe, encoder_rate=0.0)
    run = train(make, learning, learning[:1], test, still, seed=0)
    moved = dict(run.network.encoder.named_parameters())  # type: ignore[union-attr,operator]
    assert all(torch.equal(w, moved[n]) for n, w in fresh.named_parameters())
    without, _ = load_network(BASE_CHECKPOINT)
    with pytest.raises(SitesError, match="with messages"):
        HeadOnTrainedStates(without, 0, 64, 64)


def test_states_are_trained_with_our_head_only(
    split: tuple[list[SiteChain], list[SiteChain]], tmp_path: Path
) -> None:
    unfrozen, _ = load_network(BASE_CHECKPOINT.with_name("base.ckpt"))
    row = Row(name="deep", encoder=NoEncoder(), make=DeepPPISP, unfrozen=unfrozen)
    with pytest.raises(SitesError, match="use --network graph"):
        list(run_row(row, *split, tmp_path / "rows", seeds=[0]))
    assert not (tmp_path / "rows").exists()


def test_trained_states_start_as_those_of_the_network() -> None:
    encoder, _ = load_network(BASE_CHECKPOINT.with_name("base.ckpt"))
    states = MessageStates(encoder)
    coords, types = 5 * torch.randn(30, 3), torch.arange(30) % 20
    with torch.no_grad():
        found = states(coords, torch.nn.functional.one_hot(types, 20).float(), torch.arange(30))
        wanted = encoder.states_without_map(coords[None], types[None], torch.arange(30)[None]).state[0]
    torch.testing.assert_close(found, wanted)


def test_a_predictor_is_calibrated_evaluated_and_can_be_read(
    split: tuple[list[SiteChain], list[SiteChain]], tmp_path: Path
) -> None:
    encoder = StructureEncoder("base", ("mean", "contact"), threads=1)
    trained = train_predictor(split[0], encoder, {"test": split[1]}, heads=2)
    quality = trained.card["quality"]["test"]
    assert quality["auprc"] > quality["prevalence"]
    assert trained.card["threshold"] is None
    # As many residues are called as the probabilities add up to, in each chain.
    assert abs(quality["called"] - quality["mean_probability"]) < 0.5 / min(map(len, split[1]))
    bands = [scores["chains"] for name, scores in trained.card["quality"].items() if name != "test"]
    assert sum(bands) == quality["chains"]
    save_predictor(trained, tmp_path / "sites.ckpt")
    again = load_predictor(tmp_path / "sites.ckpt")
    assert again.card == trained.card
    seen = torch.randn(9, 2, 64), torch.arange(9), 5 * torch.randn(9, 3)
    with torch.inference_mode():
        torch.testing.assert_close(again.model(*seen), trained.model(*seen))
    (tmp_path / "other.ckpt").write_bytes(b"nothing")
    with pytest.raises(ProtembError):
        load_predictor(tmp_path / "other.ckpt")
    with pytest.raises(ProtembError, match="cannot be divided into 50 folds; use from 2 heads"):
        train_predictor(split[0], encoder, {}, heads=50)
