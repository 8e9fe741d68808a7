import json
import math
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr
from sklearn import metrics

from protemb_sdk import Embedder
from protemb_sdk._base.errors import ModelError, ProtembError
from protemb_sdk._model.models import BUNDLED
from protemb_train import cli
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.network.config import NetworkConfig
from protemb_train.network.network import ScoreNetwork
from protemb_train.probe.encoders import (
    Encoder,
    encoders,
    histogram_map,
    input_map,
    named_files,
    network_map,
    readout_columns,
    readouts,
    untrained,
)
from protemb_train.probe.labels import (
    TASKS,
    neighbour_count,
)
from protemb_train.probe.probe import ProbeError, Side, fit_and_score, held_out_sides, probe
from protemb_train.probe.scores import ClassScores, NumberScores, intervals, resampled
from protemb_train.probe.table import ProbeReport

LETTERS = "ACDEFGHIKLMNPQRSTVWYX"
BY_NAME = {task.name: task for task in TASKS}


def tiny_config(family) -> NetworkConfig:
    return NetworkConfig(family=family, channels=8, bottleneck=4, dilations=(1, 2), noise_levels=8)


def piece(trace, first, past):
    return Trace(
        f"{trace.id}:{first}",
        trace.ca_coords[first:past],
        trace.residue_type[first:past],
        trace.residue_index[first:past] - trace.residue_index[first],
    )


@pytest.fixture(scope="module")
def pieces(traces) -> list[Trace]:
    """Overlapping segments of 40 residues from real chains."""
    found = [piece(t, i, i + 40) for t in traces for i in range(0, len(t.residue_type) - 39, 6)]
    assert len(found) >= 40
    return found


@pytest.fixture
def small_corpus(make_corpus, pieces) -> Corpus:
    """A corpus of pieces of real chains, each in its own cluster, with all three splits."""
    return make_corpus(
        [("".join(LETTERS[t] for t in x.residue_type), x.ca_coords, i) for i, x in enumerate(pieces)]
    )


def checkpoint(path, config, corpus_sha256="") -> Path:
    """Write an untrained network with seed 3 in the format of pretrain."""
    record = {"network": config.as_dict(), "seed": 3, "record": {"corpus_sha256": corpus_sha256}}
    weights = {f"network.{name}": value for name, value in untrained(config, 3).state_dict().items()}
    torch.save({"hyper_parameters": record, "state_dict": weights, "global_step": 2}, path)
    return path


# Features


def rows_of(config) -> list[Encoder]:
    network = untrained(config, seed=1)
    return [
        Encoder("network", network_map(network, 1.0)),
        Encoder("input", input_map(network, 1.0)),
        Encoder("histogram", histogram_map(counts=False)),
    ]


def test_residue_types_are_hidden(config, traces):
    trace = traces[0]
    other = np.random.default_rng(0).permutation(trace.residue_type)
    assert (other != trace.residue_type).any()
    permuted = Trace(trace.id, trace.ca_coords, other, trace.residue_index)
    for row in rows_of(config):
        assert_array_equal(row.pair(trace), row.pair(permuted))


def test_readouts_are_invariant_to_rotation(config, traces):
    trace = traces[0]
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    turned = Trace(
        trace.id, (trace.ca_coords @ turn).astype(np.float32), trace.residue_type, trace.residue_index
    )
    for row in rows_of(config):
        a, b = (readouts(row.pair(t), t.ca_coords) for t in (trace, turned))
        assert_allclose(a, b, atol=2e-3 * np.abs(a).max())


def test_readouts_equal_means_over_pairs_and_neighbours(traces):
    ca = traces[0].ca_coords[:20]
    pair = np.random.default_rng(0).normal(size=(3, 20, 20)).astype(np.float32)
    both = readouts(pair, ca)
    for i in range(20):
        near = [j for j in range(20) if math.dist(ca[i], ca[j]) < 10]
        assert_allclose(
            both[i], [*pair[:, i].mean(axis=1), *pair[:, i, near].mean(axis=1)], rtol=1e-4, atol=1e-6
        )
    assert (
        both[:, readout_columns("mean", 3)].shape
        == both[:, readout_columns("neighbours", 3)].shape
        == (20, 3)
    )
    assert both[:, readout_columns("both", 3)].shape == (20, 6)


def test_the_histogram_counts_neighbours(traces):
    ca = traces[0].ca_coords
    counts = readouts(histogram_map(counts=True)(traces[0]), ca)[:, :41]
    assert_allclose(counts.sum(axis=1), len(ca), rtol=1e-5)
    assert_allclose(counts[:, :10].sum(axis=1) - 1, neighbour_count(ca), rtol=1e-4)


def test_the_untrained_network_equals_the_initial_network_of_pretrain(config):
    pl.seed_everything(3, verbose=False)
    started, twin = ScoreNetwork(config), untrained(config, seed=3)
    for (name, a), b in zip(started.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_networks_of_equal_shape_and_seed_share_an_untrained_network(tmp_path):
    files = {name: checkpoint(tmp_path / f"{name}.ckpt", tiny_config("base")) for name in ("a", "b")}
    rows = encoders(files, [0.3, 1.0])
    assert [(r.name, r.sigma, r.twin) for r in rows[:-2]] == [
        ("a", 0.3, "a, untrained"),
        ("a, untrained", 0.3, None),
        ("a, input features", 0.3, None),
        ("a", 1.0, "a, untrained"),
        ("a, untrained", 1.0, None),
        ("a, input features", 1.0, None),
        ("b", 0.3, "a, untrained"),
        ("b", 1.0, "a, untrained"),
    ]


def test_several_untrained_seeds(tmp_path):
    files = {"a": checkpoint(tmp_path / "a.ckpt", tiny_config("base"))}
    rows = encoders(files, [1.0], untrained_seeds=3)
    names = ["a", "a, untrained", "a, untrained, seed 4", "a, untrained, seed 5", "a, input features"]
    assert [row.name for row in rows[:-2]] == names
    assert rows[0].twin == "a, untrained"


def test_untrained_paper_networks_have_batch_statistics_of_real_chains(real_corpus, traces):
    bare = untrained(tiny_config("paper"), seed=0)
    fair = untrained(tiny_config("paper"), seed=0, training=real_corpus)
    assert torch.equal(bare.blocks[0].conv1.weight, fair.blocks[0].conv1.weight)
    scale = {}
    for name, network in (("bare", bare), ("fair", fair)):
        network.norm_out.register_forward_hook(lambda *a, name=name: scale.update({name: a[2].std().item()}))
        network_map(network, 1.0)(traces[0])
    assert 0.3 < scale["fair"] < 3
    assert abs(np.log(scale["fair"])) < abs(np.log(scale["bare"]))


def test_a_bundled_model_can_be_probed(traces):
    rows = encoders({"bundled": BUNDLED / "base-1.onnx"}, [0.3])
    assert [(r.name, r.sigma, r.twin) for r in rows[:3]] == [
        ("bundled", 1.0, "bundled, untrained"),  # the noise level of the file, not the given one
        ("bundled, untrained", 1.0, None),
        ("bundled, input features", 1.0, None),
    ]
    assert rows[0].record["steps"] >= 1000
    hidden = (traces[0].ca_coords, "X" * len(traces[0].residue_type), traces[0].residue_index)
    residue = Embedder(BUNDLED / "base-1.onnx").embed(hidden).residue
    assert_allclose(readouts(rows[0].pair(traces[0]), traces[0].ca_coords)[:, :64], residue, atol=1e-6)


def test_named_files():
    assert named_files(["a=x/b=c.ckpt"]) == {"a": Path("x/b=c.ckpt")}
    for wrong in (["a"], ["=x"], ["a="], ["a=x", "a=y"]):
        with pytest.raises(ProtembError, match="--encoder"):
            named_files(wrong)
    with pytest.raises(ModelError, match="no such checkpoint"):
        encoders({"a": Path("nowhere.ckpt")}, [1.0])


# Scores and probe


def test_scores_agree_with_scikit_learn(pieces):
    rng = np.random.default_rng(0)
    truth = [rng.integers(0, 3, 30) for _ in range(5)]
    log_probability = [np.log(rng.dirichlet(np.ones(3), 30)) for _ in truth]
    once = np.ones((1, 5))
    found = ClassScores.of(truth, log_probability).values(once)
    y, p = np.concatenate(truth), np.concatenate(log_probability)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, p.argmax(axis=1)))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(y, p.argmax(axis=1), average="macro"))
    assert found["log_likelihood"] == pytest.approx(-metrics.log_loss(y, np.exp(p)))
    numbers = [rng.normal(size=30) for _ in truth]
    guess = [n + rng.normal(size=30) for n in numbers]
    found = NumberScores.of(numbers, guess).values(once)
    assert found["r2"] == pytest.approx(metrics.r2_score(np.concatenate(numbers), np.concatenate(guess)))
    each = [spearmanr(a, b).statistic for a, b in zip(numbers, guess, strict=True)]
    assert found["spearman"] == pytest.approx(np.mean(each))


def test_intervals_contain_the_value_and_self_differences_are_zero():
    rng = np.random.default_rng(0)
    truth = [rng.normal(size=40) for _ in range(30)]
    scores = NumberScores.of(truth, [t + 0.5 * rng.normal(size=40) for t in truth])
    weight = resampled(30, 200, seed=0)
    assert_array_equal(weight.sum(axis=1), 30)
    value = intervals(scores, weight)["r2"]
    assert value.low < value.value < value.high
    nothing = intervals(scores, weight, minus=scores)["r2"]
    assert nothing.low == nothing.value == nothing.high == 0


def test_shuffled_labels_give_chance_level(pieces):
    """True labels are predicted better than chance from the same features."""
    fit, test = Side.of(pieces[::2]), Side.of(pieces[1::2])
    row = Encoder("input", input_map(untrained(tiny_config("base"), seed=0), 1.0))
    x, y = fit.features(row), test.features(row)
    rng = np.random.default_rng(0)
    for name, score in (("secondary_structure", "accuracy"), ("neighbours", "r2")):
        task = BY_NAME[name]
        kind = np.int64 if task.classes else np.float64
        truth = [[known[name].astype(kind) for known in side.labels] for side in (fit, test)]
        shuffled = [np.split(rng.permutation(np.concatenate(t)), len(t)) for t in truth]
        found = []
        for a, b in (truth, shuffled):
            scores, chosen = fit_and_score(task, (x, a), (y, b))
            assert chosen is not None
            blind, _ = fit_and_score(task, (x, a), (y, b), blind=True)
            once = np.ones((1, len(b)))
            found.append(float(scores.values(once)[score][0] - blind.values(once)[score][0]))
        assert found[0] > 0.1
        assert abs(found[1]) < 0.05


def test_fitted_and_test_chains_are_from_different_splits(small_corpus):
    sides = held_out_sides(small_corpus.path, (4, 4), (40, 300))
    assert [len(side.traces) for side in sides] == [4, 4]
    splits = dict(
        zip(small_corpus.table["id"].to_pylist(), small_corpus.table["split"].to_pylist(), strict=True)
    )
    assert [{splits[t.id] for t in side.traces} for side in sides] == [{"val"}, {"test"}]


def test_one_chain_is_selected_per_cluster(make_corpus, pieces):
    rows = [("A" * 40, x.ca_coords, i // 3) for i, x in enumerate(pieces)]
    corpus = make_corpus(rows)
    found = corpus.one_per_cluster(100, (40, 300))
    assert len(found) == len(np.unique(corpus.clusters))
    assert len(set(corpus.clusters[found])) == len(found)
    assert corpus.one_per_cluster(5, (40, 300)) == found[:5]
    assert corpus.one_per_cluster(100, (41, 300)) == []


def test_too_few_clusters_are_refused(small_corpus):
    with pytest.raises(ProbeError, match="val has 0 clusters of chains of 4000 to 5000 residues"):
        held_out_sides(small_corpus.path, (4, 4), (4000, 5000))


def test_a_cluster_in_both_splits_is_refused(make_corpus, pieces, monkeypatch):
    monkeypatch.setattr(
        "protemb_train.corpus.corpus.split_by_cluster", lambda c, s: ["val", "test"] * (len(c) // 2)
    )
    corpus = make_corpus([("A" * 40, x.ca_coords, i // 2) for i, x in enumerate(pieces[:12])])
    with pytest.raises(ProbeError, match="is in val and in test"):
        held_out_sides(corpus.path, (9, 9), (40, 300))


def test_the_command_writes_both_files(small_corpus, tmp_path, monkeypatch):
    for grid in ("STRENGTHS", "ALPHAS"):  # to make the test fast
        monkeypatch.setattr(f"protemb_train.probe.probe.{grid}", (1e-2,))
    path = checkpoint(tmp_path / "tiny.ckpt", tiny_config("base"), small_corpus.sha256)
    out = tmp_path / "probe.json"
    command = ["probe", "--corpus", str(small_corpus.path), "--encoder", f"tiny={path}", "-o", str(out)]
    monkeypatch.setattr(sys, "argv", ["protemb-train", *command, "--samples", "20", "--fit-chains", "3"])
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["protemb-train", *command[:-1], str(tmp_path / "probe.md")])
        with pytest.raises(SystemExit) as stopped:
            cli.main()  # the table would have this name
    assert stopped.value.code == 1 and not list(tmp_path.glob("probe*"))
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    found = json.loads(out.read_text())
    assert found["command"].startswith("protemb-train probe --corpus")
    assert found["corpus_sha256"] == small_corpus.sha256
    assert found["another_corpus"] == []
    assert found["encoders"]["tiny"]["steps"] == 2
    assert not set(found["fit"]["ids"]) & set(found["test"]["ids"])
    assert len(found["rows"]) == len(TASKS) * (1 + 7 * 3)
    trained = [row for row in found["rows"] if row["encoder"] == "tiny"]
    assert all(row["gain"] and row["width"] in (8, 16) for row in trained)
    table = out.with_suffix(".md").read_text()
    scores, gains = table.split("\n## ")[1:]
    for part in (scores, gains):
        header = next(line for line in part.splitlines() if line.startswith("| encoder"))
        assert all(task.title in header for task in TASKS)
    assert len(scores.splitlines()) > 1 + 7 * 3 and gains.count("| tiny |") == 3
    assert small_corpus.sha256 in table


def test_a_network_trained_on_another_corpus_is_reported(small_corpus):
    about = {"corpus_sha256": "here", "command": "", "corpus": "c", "origin": {"commit": None}}
    about |= {side: {"chains": 3, "residues": 9} for side in ("fit", "test")}
    stranger = Encoder("stranger", histogram_map(counts=True), 1.0, "twin", {"corpus_sha256": "there"})
    report = ProbeReport([], [stranger], about)
    assert report.as_dict()["another_corpus"] == ["stranger"]
    assert "which may contain these chains: stranger" in report.as_markdown()


# Vectors of residues


def test_residue_vectors_are_probed_in_addition_to_pair_maps(tmp_path, small_corpus, traces):
    """A checkpoint with a single representation, its untrained network and 3Di. Residue types are hidden."""
    from .test_encoders import CONFIG

    path = checkpoint(tmp_path / "a.ckpt", CONFIG)
    rows = encoders({"ours": path, "foldseek": Path("3di")}, [0.3])
    seen = [(row.name, row.vectors) for row in rows if row.residue is not None]
    vectors = ("state+means+surroundings", "state", "structure")
    assert seen == [
        *(("ours", v) for v in vectors),
        *(("ours, untrained", v) for v in vectors),
        ("foldseek", "states"),
    ]
    state = next(row for row in rows if row.vectors == "state")
    trace = traces[0]
    other = Trace(trace.id, trace.ca_coords, (trace.residue_type + 3) % 20, trace.residue_index)
    assert state.features(trace).shape == (len(trace.residue_type), CONFIG.single_channels)
    assert_array_equal(state.features(trace), state.features(other))
    sides = held_out_sides(small_corpus.path, (3, 3), (20, 100))
    shown = [row for row in rows if row.residue is not None]
    found = probe(*sides, shown, [BY_NAME["neighbours"]], samples=20)
    ours = {row.readout: row for row in found if row.encoder == "ours"}
    assert set(ours) == set(vectors) and all(row.gain for row in ours.values())
