"""Evaluation of frozen networks without test labels: folds, intervals, each measure and the table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from protemb_sdk._base.errors import ModelError
from protemb_train.cli import app
from protemb_train.corpus.corpus import Corpus
from protemb_train.downstream.common.embeddings import Embedded
from protemb_train.downstream.common.overlap import folds_by_family
from protemb_train.downstream.quality.decoys import write_decoys
from protemb_train.encoders.network import NetworkEncoder
from protemb_train.evaluate import folds, pretraining, quality, sites
from protemb_train.evaluate.embedded import Contents, Piece
from protemb_train.evaluate.measures import DRAWS, Measure, draws_of, mean_of
from protemb_train.evaluate.run import EvaluationError, Inputs, evaluate, read_evaluation
from protemb_train.evaluate.table import as_table
from protemb_train.network.checkpoint import save_network
from protemb_train.pretrain.judge import judge, judge_states

from .test_encoders import CONFIG
from .test_protein_vector import varied
from .test_quality_networks import decoy_of


@pytest.fixture
def encoder(tmp_path, randomised):
    path = tmp_path / "small.ckpt"
    save_network(randomised(CONFIG), {"network": CONFIG.as_dict(), "steps": 7, "seed": 0}, path)
    return NetworkEncoder(path)


@pytest.fixture
def corpus(make_corpus, traces, tmp_path):
    """Real chains with noise in 30 clusters: 24 for training, 3 for validation, 3 for test."""
    rng = np.random.default_rng(0)
    chains = [
        (*varied(trace, rng, 0.3, cut), 100 * n + cut)
        for n, trace in enumerate(t for t in traces if len(t.residue_type) >= 60)
        for cut in range(10)
    ]
    make_corpus(chains)
    return tmp_path / "corpus.arrow"


def test_each_family_is_in_one_fold_and_folds_have_equal_size():
    family = [0] * 9 + [1] * 5 + [2] * 4 + list(range(3, 15))
    found = folds_by_family(family, 3, seed=1)
    assert len({*found[:9]}) == len({*found[9:14]}) == len({*found[14:18]}) == 1
    assert np.bincount(found).max() - np.bincount(found).min() <= 1
    assert not np.array_equal(found, folds_by_family(family, 3, seed=2))


def test_intervals_contain_the_mean_and_differences_are_paired():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=80)
    one, other = mean_of(hard + 1.0), mean_of(hard + 0.9 + 0.01 * rng.normal(size=80))
    assert one.value == pytest.approx(hard.mean() + 1.0)
    low, high = one.interval
    assert low < one.value < high and high - low == pytest.approx(4 * hard.std() / np.sqrt(80), rel=0.2)
    difference = one.minus(other)
    assert difference.interval[1] - difference.interval[0] < 0.05 * (high - low)
    back = Measure.from_dict(json.loads(json.dumps(one.as_dict())))
    assert back.value == pytest.approx(one.value, abs=1e-5) and len(back.draws) == DRAWS
    weighted = mean_of(np.array([1.0, np.nan, 4.0]), np.array([3.0, 5.0, 1.0]))
    assert weighted.value == pytest.approx(7 / 4)


def test_combined_vectors_are_concatenated_columns(encoder, traces, tmp_path):
    pieces = [Piece.of(traces[0]), Piece.of(traces[0], slice(5, 50))]
    found = Contents(encoder, ["means+state", "structure"], tmp_path / "kept").embed(pieces)
    trace = traces[0]
    direct = encoder.encode(
        trace.ca_coords[5:50], trace.residue_type[5:50], np.arange(45), ("state", "structure", "means")
    )
    expected = np.concatenate([direct["means"], direct["state"]], axis=1)
    assert np.allclose(found["means+state"][1].residue, expected, atol=1e-5)
    assert np.allclose(found["structure"][1].residue, direct["structure"], atol=1e-5)
    assert len(list((tmp_path / "kept").iterdir())) == 1
    with pytest.raises(ModelError, match="no residue vectors named 'encoder'"):
        Contents(encoder, ["state+encoder"], None)


def test_pretraining_measures_equal_those_of_judge(encoder, corpus):
    validation, training = (Corpus(corpus, [split]) for split in ("val", "train"))
    positions = validation.one_per_cluster(pretraining.DENOISED, pretraining.LENGTHS)
    assert positions
    share, by_level = pretraining.denoising(encoder.network, validation)
    alone = [
        judge(encoder.network, [validation[p]], seed=n).share[:: pretraining.EVERY].mean()
        for n, p in enumerate(positions)
    ]
    # The chains and the levels are the same; the noise is not.
    assert share.value == pytest.approx(np.mean(alone), rel=0.2)
    assert len(by_level) == len(encoder.network.levels_K[:: pretraining.EVERY])
    found = pretraining.types(encoder, validation)
    theirs = judge_states(encoder.network, None, validation)
    assert found["type_accuracy"].value == pytest.approx(theirs["type_accuracy"], abs=1e-6)
    assert found["type_nats"].value == pytest.approx(theirs["type_nats"], abs=1e-4)


@pytest.mark.parametrize("head", ["graph", "linear"])
def test_sites_are_predicted_from_informative_vectors(split, head):
    """Vectors that contain the label give a high score, vectors of noise a low one."""
    chains, _ = split
    rng = np.random.default_rng(0)

    def embedded(signal):
        vectors = [
            rng.normal(size=(len(c), 6)).astype(np.float32) + signal * c.label[:, None].astype(np.float32)
            for c in chains
        ]
        return [Embedded(v, v.mean(axis=0)) for v in vectors]

    found = {signal: sites.cross_validated(chains, embedded(signal), head, [0]) for signal in (0, 3)}
    share = np.concatenate([c.label for c in chains]).mean()
    least = 0.75 if head == "graph" else 0.8
    assert found[3].value > least and found[3].value > found[0].value + 0.2
    low, high = found[3].interval
    assert low <= found[3].value <= high and share < low


def test_quality_is_predicted_from_informative_vectors(traces):
    """lDDT of residues is predicted for targets that are not in the training folds."""
    rng = np.random.default_rng(0)
    decoys = [
        replace(decoy_of(trace, noise, 10 * n + k, f"{n}-{k}"), target=f"t{n}")
        for n, trace in enumerate(t for t in (*traces, *traces) if len(t.residue_type) > 20)
        for k, noise in enumerate((0.5, 1.5, 3.0))
    ]
    # Each sequence occurs in two targets. Relatives are in one fold, so this does not raise the score.
    vectors = [
        np.concatenate(
            [3 * np.nan_to_num(d.residue_quality[:, :1]), rng.normal(size=(len(d), 3))], axis=1
        ).astype(np.float32)
        for d in decoys
    ]
    found = quality.cross_validated(decoys, [Embedded(v, v.mean(axis=0)) for v in vectors], [0])
    assert found["lddt_rho"].value > 0.8 and found["gdt_ts_r"].value > 0.8
    noise = [Embedded(v[:, 1:], v[:, 1:].mean(axis=0)) for v in vectors]
    assert abs(quality.cross_validated(decoys, noise, [0])["lddt_rho"].value) < 0.3


def test_weighted_correlations_equal_those_of_repeated_models():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9))
    weight = draws_of(9)
    found = quality._correlations(x, y, weight)
    for row in (0, 7):
        many = np.repeat(np.arange(9), weight[row].astype(int))
        assert found[row] == pytest.approx(np.corrcoef(x[many], y[many])[0, 1])


def test_an_evaluation_from_checkpoint_to_table(encoder, corpus, written, traces, tmp_path):
    """The command computes all measures, skips finished work, and writes a table with differences."""
    decoys = [
        replace(decoy_of(trace, noise, k, f"{k}"), target=f"t{n}", split="train")
        for n, trace in enumerate(t for t in traces if 20 < len(t.residue_type) <= quality.LONGEST)
        for k, noise in enumerate((0.5, 2.0))
    ]
    tested = replace(decoy_of(traces[-1], 0.5, 0, "0"), target="tested", split="test")
    write_decoys([*decoys, tested], tmp_path / "decoys.npz")
    run = CliRunner().invoke
    pairs = run(app, ["pairs", str(corpus), "-o", str(tmp_path / "pairs.npz"), "--count", "60"])
    assert pairs.exit_code == 0, pairs.output
    inputs = ["--corpus", str(corpus), "--sites", str(written()), "--real", str(tmp_path / "decoys.npz")]
    inputs += ["--pairs", str(tmp_path / "pairs.npz"), "--cache", str(tmp_path / "cache"), "--seeds", "1"]
    out = tmp_path / "small.json"
    options = [*inputs, "--contents", "state+means", "--contents", "structure", "--head", "graph"]
    arguments = ["evaluate", "network", str(encoder.path), "-o", str(out), "--name", "small", *options]
    done = run(app, arguments)
    assert done.exit_code == 0, done.output
    found = read_evaluation(out)
    measures = found["measures"]
    for content in ("state+means", "structure"):
        for key in ("contact_sites", "sites, graph", "lddt_rho", "gdt_ts_r"):
            assert f"{key}, {content}" in measures
    assert "denoising" in measures and any(key.startswith("mean_tm") for key in measures)
    written_at = out.stat().st_mtime_ns
    again = run(app, arguments)
    assert again.exit_code == 0 and out.stat().st_mtime_ns == written_at, again.output
    changed = run(app, [*arguments, "--seeds", "2"])
    assert changed.exit_code != 0

    rival = tmp_path / "3di.json"
    done = run(app, ["evaluate", "network", "3di", "-o", str(rival), *inputs, "--head", "graph"])
    assert done.exit_code == 0, done.output
    assert not {"denoising", "type_accuracy"} & set(read_evaluation(rival)["measures"])
    page = tmp_path / "table.md"
    done = run(app, ["evaluate", "table", str(out), str(rival), "-o", str(page), "--against", "3di"])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "| small | 7 |" in text and "## Minus 3di" in text and "August 2021" in text
    assert f"| small | state+means | {measures['contact_sites, state+means']['value']:.3f} (" in text


def test_evaluations_that_cannot_be_compared_are_refused(encoder, corpus, tmp_path):
    out = tmp_path / "a.json"
    inputs = Inputs(corpus=corpus, cache=tmp_path / "cache")
    found = evaluate("a", encoder, ["state"], inputs, out)
    with pytest.raises(EvaluationError, match=r"different settings \(seeds\)"):
        evaluate("a", encoder, ["state"], replace(inputs, seeds=3), out)
    with pytest.raises(EvaluationError, match="the same name"):
        as_table([found, found])
    with pytest.raises(EvaluationError, match="there is no evaluation 'b'"):
        as_table([found], "b")
    other = {**found, "name": "b", "settings": {**found["settings"], "corpus_sha256": "0"}}
    with pytest.raises(EvaluationError, match="different corpora"):
        as_table([found, other])
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(EvaluationError, match="not a file of protemb-train evaluate"):
        read_evaluation(tmp_path / "c.json")


def test_fold_retrieval_finds_noisy_copies(encoder, corpus, tmp_path):
    """The corpus has several noisy copies of each chain, which are the first hits."""
    from protemb_train.protein_vector.pairs import make_pairs

    make_pairs(Corpus(corpus, ["train"]), tmp_path / "pairs.npz", 60)
    found = folds.fold_retrieval(
        encoder, corpus, tmp_path / "pairs.npz", tmp_path / "cache", queries=5, chains=30
    )
    width = max(int(key.rpartition(", ")[2]) for key in found)
    assert found[f"first_tm, {width}"].value > 0.4
    assert found[f"mean_tm, {width}"].value <= found[f"best_mean_tm, {width}"].value + 1e-6


def test_average_precision_of_samples_equals_that_of_repeated_chains():
    from protemb_train.downstream.sites.bootstrap import average_precisions

    rng = np.random.default_rng(0)
    lengths = np.array([5, 7, 9])
    label, predicted = rng.random(21) < 0.4, rng.random(21)
    chain = np.repeat(np.arange(3), lengths)
    counts = np.array([[1, 1, 1], [2, 0, 1]])
    found = average_precisions(label, predicted, lengths, counts)
    for row, count in enumerate(counts):
        many = np.concatenate([np.flatnonzero(chain == n).repeat(k) for n, k in enumerate(count)])
        assert found[row] == pytest.approx(average_precision_score(label[many], predicted[many]))
