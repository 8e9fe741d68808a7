"""A row from models to table: real embeddings, a seed again, test models kept out, the page."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from protemb_sdk import Embedder, ModelError
from protemb_train.cli import app
from protemb_train.corpus.corpus import Trace
from protemb_train.downstream.common.embeddings import NoEncoder, StructureEncoder
from protemb_train.downstream.quality.calibration import (
    GOOD,
    GOOD_WEIGHT,
    calibrate,
    cross_calibrated,
    fit_calibration,
)
from protemb_train.downstream.quality.data import (
    few_per_target,
    real_decoys,
    sequences_tested,
    training_models,
)
from protemb_train.downstream.quality.decoys import Decoy, DecoyError, read_decoys, write_decoys
from protemb_train.downstream.quality.finetune import EndToEnd, bare
from protemb_train.downstream.quality.naming import Namer
from protemb_train.downstream.quality.predictions import predictions
from protemb_train.downstream.quality.rows import Row, fine_tune_row, run_row
from protemb_train.downstream.quality.scorer import assemble, combined, load_scorer, save_scorer, together
from protemb_train.downstream.quality.table import COLUMNS, as_table, by_target, gains, read_energies
from protemb_train.downstream.quality.trained import TrainedNetwork, load_row, load_rows
from protemb_train.downstream.quality.training import Examples, Predicted, Recipe, SomePerTarget, predict
from protemb_train.downstream.quality.vectors import embed_decoys
from protemb_train.experiments.zero_shot import correlations, scan
from protemb_train.network.checkpoint import load_network, round_weights

from .test_quality_networks import decoy_of

NOISE = (0.3, 1.0, 2.5, 5.0)


@pytest.fixture(scope="module")
def sides(traces: list[Trace]) -> dict[str, list[Decoy]]:
    """Noisy copies of three real chains, one target each for learning, watching and testing."""
    found = {}
    for split, trace in zip(("train", "val", "test"), traces, strict=False):
        found[split] = [
            replace(decoy_of(trace, noise, seed, f"{split}{noise}"), split=split, target=f"casp/{trace.id}")
            for seed, noise in enumerate(NOISE)
        ]
    return found


@pytest.fixture(scope="module")
def encoder() -> StructureEncoder:
    return StructureEncoder("base-1", ("mean",), threads=1)


@pytest.fixture(scope="module")
def profile() -> StructureEncoder:
    return StructureEncoder("base", ("profile", "mean"), threads=1)


RECIPE = Recipe(epochs=2, batch=2)


def twice(decoys: list[Decoy]) -> list[Decoy]:
    """The models of a target, and the same as those of another."""
    return [*decoys, *(replace(d, target=d.target + "-again") for d in decoys)]


@pytest.fixture(scope="module")
def rows(
    sides: dict[str, list[Decoy]],
    encoder: StructureEncoder,
    profile: StructureEncoder,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for name, kind, by in (
        ("none", "graphqa", NoEncoder()),
        ("base", "graphqa", encoder),
        ("head", "head", encoder),
        ("residues", "residues", encoder),
        ("compatibility", "compatibility", profile),
    ):
        row = Row(name=name, network=kind, encoder=by, recipe=RECIPE)
        list(
            run_row(
                row, twice(sides["train"]), sides["val"], folder / "r", seeds=range(2), cache=folder / "cache"
            )
        )
    return folder


def test_a_saved_row_can_be_read(rows: Path, sides: dict[str, list[Decoy]]) -> None:
    found = load_rows(rows / "r")
    assert {name: len(seeds) for name, seeds in found.items()} == dict.fromkeys(
        ("none", "base", "head", "residues", "compatibility"), 2
    )
    record = found["base"][1].record
    assert record["seed"] == 1 and record["models"] == [8, 4] and record["targets"] == [2, 1]
    assert len(record["curve"]) == 2 and record["curve"][-1]["gdt_ts_rmse"] >= 0
    assert set(record["validation"]) == {"real"} and record["encoder"]["encoder"] == "base-1"
    assert set(load_rows(rows / "r", only="head")) == {"head"}
    with pytest.raises(DecoyError, match="contains no other; train some"):
        load_rows(rows / "r", only="other")


def test_the_same_seed_gives_the_same_network(
    rows: Path, sides: dict[str, list[Decoy]], encoder: StructureEncoder, tmp_path: Path
) -> None:
    row = Row(name="head", network="head", encoder=encoder, recipe=RECIPE)
    again = list(
        run_row(row, twice(sides["train"]), sides["val"], tmp_path, seeds=range(1), cache=rows / "cache")
    )
    kept = load_row(rows / "r" / "head" / "seed-0.pt").network.state_dict()
    for name, value in again[0].network.state_dict().items():
        torch.testing.assert_close(value, kept[name], rtol=0, atol=0)
    there = list(
        run_row(row, twice(sides["train"]), sides["val"], tmp_path, seeds=range(1), cache=rows / "cache")
    )
    assert there == []  # not made again


def test_finished_seeds_with_different_settings_are_refused(
    rows: Path, sides: dict[str, list[Decoy]], encoder: StructureEncoder, tmp_path: Path
) -> None:
    shutil.copytree(rows / "r" / "head", tmp_path / "head")
    row = Row(name="head", network="head", encoder=encoder, recipe=RECIPE)
    learning = twice(sides["train"])

    def run(row: Row = row, learning: list[Decoy] = learning) -> list[TrainedNetwork]:
        return list(run_row(row, learning, sides["val"], tmp_path, seeds=[0, 1], cache=rows / "cache"))

    assert run() == []
    other = [replace(learning[0], quality=learning[0].quality + 0.1), *learning[1:]]
    for predicted_one, call in (
        ("encoder", lambda: run(replace(row, encoder=NoEncoder()))),
        ("network", lambda: run(replace(row, network="residues"))),
        ("recipe", lambda: run(replace(row, recipe=Recipe(epochs=3, batch=2)))),
        ("models", lambda: run(learning=learning[:-1])),
        ("models_sha256", lambda: run(learning=other)),
        ("namer_sha256 and names", lambda: run(replace(row, namer=Namer(8, 1)))),
    ):
        with pytest.raises(
            DecoyError, match=rf"seed-0\.pt: was trained with different settings \({predicted_one}"
        ):
            call()
    # An older version told less.
    path = tmp_path / "head" / "seed-1.pt"
    whole = torch.load(path, weights_only=True)
    for name in ("models_sha256", "namer_sha256"):
        del whole["record"][name]
    torch.save(whole, path)
    assert run() == [] and len(load_rows(tmp_path)["head"]) == 2
    with pytest.raises(DecoyError, match=r"different settings \(names\)"):
        list(
            run_row(
                replace(row, namer=Namer(8, 1)), learning, sides["val"], tmp_path, seeds=[1], cache=tmp_path
            )
        )
    # Of another encoder: no part of the row in the table either.
    whole["record"]["encoder"] = {"encoder": "old"}
    torch.save(whole, path)
    with pytest.raises(DecoyError, match=r"its seeds 0 and 1 were trained with different settings \(encoder"):
        load_rows(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(DecoyError, match="remove it to train this seed again") as refused:
        run()
    assert refused.value.where == str(path)


def test_test_models_are_refused_in_training(
    sides: dict[str, list[Decoy]], encoder: StructureEncoder, tmp_path: Path
) -> None:
    row = Row(name="r", network="head", encoder=encoder)
    for learn, watch in ((sides["test"], sides["val"]), (sides["train"], sides["test"])):
        with pytest.raises(DecoyError, match="a test model is among the"):
            list(run_row(row, learn, watch, tmp_path, seeds=[0], cache=tmp_path))


def test_the_compatibility_network_needs_the_profile_first(
    sides: dict[str, list[Decoy]], encoder: StructureEncoder, tmp_path: Path
) -> None:
    for by in (encoder, NoEncoder(), StructureEncoder("base", ("mean", "profile"), threads=1)):
        row = Row(name="r", network="compatibility", encoder=by)
        with pytest.raises(DecoyError, match="requires profile as its first readout"):
            list(run_row(row, twice(sides["train"]), sides["val"], tmp_path, seeds=[0], cache=tmp_path))


def test_one_target_is_refused(
    sides: dict[str, list[Decoy]], encoder: StructureEncoder, rows: Path, tmp_path: Path
) -> None:
    row = Row(name="r", network="graphqa", encoder=encoder)
    with pytest.raises(DecoyError, match="at least 2 targets are required"):
        list(run_row(row, sides["train"], sides["val"], tmp_path, seeds=[0], cache=rows / "cache"))
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_invalid_row_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "seed-0.pt"
    if content is None:
        torch.save({"format": "protemb-sites-2"}, path)
    else:
        path.write_bytes(content)
    for read in (load_row, load_scorer):
        with pytest.raises(ModelError, match=r"seed-0\.pt"):
            read(path)


def test_an_epoch_is_one_model_of_each_target(sides: dict[str, list[Decoy]]) -> None:
    every = [d for of in sides.values() for d in of]
    from protemb_train.downstream.quality.graphs import graph_of

    graphs = [graph_of(d) for d in every]
    for n, graph in enumerate(graphs):
        graph.which = torch.tensor([n])
    drawn = SomePerTarget(Examples(every, lambda n: graphs[n]), 1, seed=0)
    epochs = [[int(b.which[0]) for b in drawn] for _ in range(8)]
    for epoch in epochs:
        assert sorted(n // len(NOISE) for n in epoch) == [0, 1, 2]
    assert len({n for epoch in epochs for n in epoch}) > 6  # over epochs, others
    for batch in SomePerTarget(Examples(every, lambda n: graphs[n]), 2, seed=0, models=3):
        assert len(set(batch.which.tolist())) == 6
        of_target = {int(t): batch.which[batch.target == t] // len(NOISE) for t in batch.target.unique()}
        assert len(of_target) == 2 and all(len(set(n.tolist())) == 1 for n in of_target.values())


def test_embeddings_are_cached_and_equal_the_sdk(
    sides: dict[str, list[Decoy]], encoder: StructureEncoder, tmp_path: Path
) -> None:
    decoys = sides["train"]
    made = embed_decoys(encoder, decoys, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    again = embed_decoys(encoder, decoys, tmp_path)
    np.testing.assert_array_equal(made.node, again.node)
    own = Embedder("base-1", "cpu", threads=1).embed((decoys[1].ca_coords, decoys[1].sequence), pair=True)
    node, edge = made[1]
    np.testing.assert_allclose(node[:, : own.residue.shape[1]], own.residue, rtol=2e-3, atol=2e-3)
    from protemb_train.downstream.quality.graphs import edges_of

    sender, receiver = edges_of(decoys[1].ca_coords)
    assert own.pair is not None
    np.testing.assert_allclose(edge, own.pair[receiver, sender], rtol=2e-3, atol=2e-3)


def test_the_table_has_scores_energies_and_differences(
    rows: Path, sides: dict[str, list[Decoy]], encoder: StructureEncoder, tmp_path: Path
) -> None:
    decoys = sides["test"]
    found = load_rows(rows / "r")
    gone = replace(found["base"][0], record={**found["base"][0].record, "encoder": {"encoder": "gone"}})
    with pytest.raises(DecoyError, match=r"row base requires its encoder gone; pass it with --encoder"):
        predictions({"base": [gone]}, decoys, [], rows / "cache")
    predicted = predictions(found, decoys, [], rows / "cache")
    energies = tmp_path / "energies.tsv"
    names = ["decoy", "voromqa_score", "goap_energy", "dfire_energy", "rw_plus_energy", "icosa_energy"]
    lines = [f"{d.id}\t{d.gdt_ts}\t{-d.gdt_ts}\t{d.gdt_ts}\t1\t{k}" for k, d in enumerate(decoys)]
    # Names with a dot would lose what follows it, as the shared set's end in .pdb.
    decoys = [replace(d, id=f"folder/{d.id}.pdb") for d in decoys]
    energies.write_text("\t".join(names) + "\n" + "\n".join(lines) + "\n")
    others = read_energies(energies, decoys)
    page, values = as_table(decoys, found, predicted, others, ["none"])
    assert "| GOAP, all atoms |  |  | 1.000 |" in page
    assert "| DFIRE, all atoms |  |  | -1.000 |" in page
    assert "## Published on CASP13" in page and ".155 | .793" not in page
    assert "| row | minus none |" in page and "| head, together |" in page
    names = {"none", "base"} | {
        name for kind in ("head", "residues", "compatibility") for name in (kind, f"{kind}, together")
    }
    assert set(values["scores"]) == names and values["ranked"]["GOAP, all atoms"]["gdt_ts_r_target"] == 1
    assert set(values["scores"]["base"]) == set(COLUMNS)
    gain = gains(*([by_target(decoys, p) for p in predicted[name]] for name in ("base", "none")))
    plain = {key: difference.as_dict() for key, difference in gain.items()}
    assert values["differences"]["none"]["base"] == plain
    with pytest.raises(DecoyError, match="there is no row 'first'"):
        as_table(decoys, found, predicted, others, ["first"])
    energies.write_text("no table")
    with pytest.raises(DecoyError, match="not a tab-separated table of energies"):
        read_energies(energies, decoys)


def test_gains_are_paired_by_seed_and_drawn_over_targets() -> None:
    keys = ("gdt_ts_r_target", "gdt_ts_z", "residue_lddt_rho_decoy")
    rng = np.random.default_rng(0)
    low = [{k: rng.normal(size=20) for k in keys} for _ in range(5)]
    high = [{k: v + 0.5 for k, v in seed.items()} for seed in low]
    gain = gains(high, low)["gdt_ts_z"]
    assert gain.mean == pytest.approx(0.5) and gain.samples == pytest.approx((0.5, 0.5))
    assert gain.seeds == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("kind", ["head", "residues", "compatibility"])
def test_a_scorer_is_the_calibrated_mean_of_its_networks(
    kind: str,
    rows: Path,
    sides: dict[str, list[Decoy]],
    encoder: StructureEncoder,
    profile: StructureEncoder,
    tmp_path: Path,
) -> None:
    from protemb_sdk._structure.chain import encode_sequence

    seeds = load_rows(rows / "r")[kind]
    for seed in seeds:
        round_weights(seed.network)  # as those of a scorer
    raw = combined(predictions({kind: seeds}, sides["val"], [], rows / "cache"), [kind])
    weights = [(1.5, 0.5, 0.2, -0.1), (0.5, -0.25, 0.1, 0.3), (2.0, 1.0, -0.3, 0.2)]
    predicted_one = calibrate(raw, weights)
    save_scorer(assemble({kind: seeds}, {}, weights), tmp_path / "q.ckpt")
    model = load_scorer(tmp_path / "q.ckpt").model
    vectors = embed_decoys(
        profile if kind == "compatibility" else encoder, sides["val"], rows / "cache", pairs=False
    )
    for n, d in enumerate(sides["val"]):
        features = vectors.of_nodes(n).reshape(len(d), 1, -1)
        coords = torch.from_numpy((d.ca_coords - d.ca_coords.mean(axis=0)).astype(np.float32))
        with torch.inference_mode():
            residue, lddt, gdt_ts = model(features, torch.from_numpy(encode_sequence(d.sequence)), coords)
        np.testing.assert_allclose(residue, predicted_one.residue_quality[n][:, 0], atol=1e-5)
        np.testing.assert_allclose([gdt_ts, lddt], predicted_one.quality[n][[1, 3]], atol=1e-5)
    with pytest.raises(DecoyError, match="of kind residues, head or compatibility on a structure embedding"):
        assemble({"base": load_rows(rows / "r")["base"]}, {})


def test_a_scorer_of_several_rows_is_the_mean_of_their_means(
    rows: Path, sides: dict[str, list[Decoy]], profile: StructureEncoder, tmp_path: Path
) -> None:
    from protemb_sdk._structure.chain import encode_sequence

    for name, kind, by in (("mixed", "residues", profile), ("alone", "residues", NoEncoder())):
        row = Row(name=name, network=kind, encoder=by, recipe=RECIPE)
        learning = twice(sides["train"])
        list(run_row(row, learning, sides["val"], tmp_path, seeds=[0], cache=rows / "cache"))
    found = {"compatibility": load_rows(rows / "r")["compatibility"], **load_rows(tmp_path)}
    for seed in (seed for row in found.values() for seed in row):
        round_weights(seed.network)
    of_rows = predictions(found, sides["val"], [], rows / "cache")
    mean = together([together(of_rows[name]) for name in found])
    expected = combined(of_rows, list(found))
    for of, smooth in zip(mean.residue_quality, expected.residue_quality, strict=True):
        ends = np.pad(of[:, 0], 1, mode="edge")
        np.testing.assert_allclose(smooth[:, 0], np.convolve(ends, [0.25, 0.5, 0.25], "valid"), atol=1e-6)
    save_scorer(assemble(found, {}), tmp_path / "q.ckpt")
    trained = load_scorer(tmp_path / "q.ckpt")
    assert trained.card["training"]["networks"] == (
        "2 compatibility on base, 2 epochs, 1 residues on none, 2 epochs, 1 residues on base, 2 epochs"
    )
    vectors = embed_decoys(profile, sides["val"], rows / "cache", pairs=False)
    for n, d in enumerate(sides["val"]):
        coords = torch.from_numpy((d.ca_coords - d.ca_coords.mean(axis=0)).astype(np.float32))
        with torch.inference_mode():
            residue, lddt, gdt_ts = trained.model(
                vectors.of_nodes(n)[:, None], torch.from_numpy(encode_sequence(d.sequence)), coords
            )
        np.testing.assert_allclose(residue, expected.residue_quality[n][:, 0], atol=1e-5)
        np.testing.assert_allclose([gdt_ts, lddt], expected.quality[n][[1, 3]], atol=1e-5)
    test = sides["test"]
    values = as_table(
        test, found, predictions(found, test, [], rows / "cache"), {}, [], [["compatibility", "alone"]]
    )[1]
    assert "compatibility + alone, together" in values["scores"]
    with pytest.raises(DecoyError, match="its embeddings are not those of row compatibility"):
        assemble(found | {"head": load_rows(rows / "r")["head"]}, {})
    with pytest.raises(DecoyError, match="there is no row 'gone'"):
        as_table(test, found, of_rows, {}, [], [["gone"]])


def test_calibration_removes_a_bias_and_keeps_the_order(sides: dict[str, list[Decoy]]) -> None:
    models = sides["train"] + sides["val"]
    true = np.array([d.quality for d in models], dtype=np.float32)
    local = [d.residue_quality.astype(np.float32) for d in models]
    low = Predicted(0.6 * true, [0.6 * values for values in local])
    for found in (calibrate(low, fit_calibration(models, low)), cross_calibrated(models, low)):
        for k in (1, 3):
            assert np.abs(found.quality[:, k] - true[:, k]).mean() < np.abs(0.4 * true[:, k]).mean() / 3
        np.testing.assert_array_equal(found.quality[:, [0, 2, 4]], low.quality[:, [0, 2, 4]])
    whole = calibrate(low, fit_calibration(models, low))
    np.testing.assert_array_equal(np.argsort(whole.quality[:, 1]), np.argsort(low.quality[:, 1]))


def test_good_models_weigh_more_in_the_calibration(sides: dict[str, list[Decoy]]) -> None:
    """Where predictions say nothing, the calibrated value is a mean over poor tenths and good models."""
    model = sides["train"][0]
    poor, good, best = (
        replace(model, quality=np.full_like(model.quality, value)) for value in (0.25, 0.75, 0.95)
    )
    models = [poor] * 6 + [good] + [best] * 3
    blind = Predicted(
        np.full((10, len(model.quality)), 0.5, dtype=np.float32),
        [np.full_like(model.residue_quality, 0.5, dtype=np.float32) for _ in models],
    )
    found = calibrate(blind, fit_calibration(models, blind)).quality[:, 1]
    of_poor, of_good = (1 - GOOD_WEIGHT) / GOOD, GOOD_WEIGHT
    expected = (0.25 * of_poor + (0.75 + 3 * 0.95) / 4 * of_good) / (of_poor + of_good)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_score_network_alone_ranks_noisy_copies(sides: dict[str, list[Decoy]]) -> None:
    decoys = sides["train"] + sides["val"]
    found = scan(Embedder("base-1", "cpu", threads=1), decoys, (1.0,))
    assert correlations(decoys, found)[1.0][1] > 0.5


def test_real_targets_are_split_by_family_and_test_sequences_are_kept_out(
    sides: dict[str, list[Decoy]], tmp_path: Path
) -> None:
    path = tmp_path / "set.npz"
    relative = [replace(d, split="train", target="casp/relative") for d in sides["test"]]
    write_decoys([*sides["train"], *sides["val"], *relative, *sides["test"]], path)
    learnt, watched, out = real_decoys(path)
    assert out == ["casp/relative"]
    assert {d.target for d in learnt} & {d.target for d in watched} == set()
    assert len(learnt) + len(watched) == 2 * len(NOISE)
    assert {d.split for d in learnt} <= {"train"} and {d.split for d in watched} <= {"val"}
    assert sequences_tested(path) == [sides["test"][0].sequence]
    assert len(few_per_target(learnt + watched, 2)) == 4 and training_models(learnt, watched, 10) == []


def test_the_command_line_from_models_to_scorer(
    rows: Path, sides: dict[str, list[Decoy]], tmp_path: Path
) -> None:
    path = tmp_path / "set.npz"
    write_decoys([d for of in sides.values() for d in of], path)
    run = CliRunner().invoke
    more = [replace(d, target="made", source="hinges") for d in sides["train"]]
    write_decoys(more, tmp_path / "made.npz")
    common = ["--real", str(path), "--cache", str(tmp_path / "cache")]
    made = run(
        app,
        ["quality", "row", "h", *common, "-o", str(tmp_path / "r"), "--encoder", "base-1",
         "--network", "head", "--epochs", "1", "--seeds", "2", "--threads", "1",
         "--made", str(tmp_path / "made.npz")],
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    page = tmp_path / "page.md"
    result = run(app, ["quality", "table", str(tmp_path / "r"), *common, "-o", str(page), "--against", "h"])
    assert result.exit_code == 0, result.output
    assert "## CASP12: 4 models of 1 targets" in page.read_text()
    values = json.loads(page.with_suffix(".json").read_text())
    assert set(values["scores"]) == {"h", "h, together"}
    (curve, _) = json.loads((tmp_path / "page-curves.json").read_text())["h"]
    assert len(curve) == 1 and set(curve[0]) > {"loss", "gdt_ts_rmse"}
    tested = [replace(d, split="test") for d in read_decoys(tmp_path / "made.npz")]
    write_decoys(tested, tmp_path / "tested.npz")
    put = run(
        app,
        ["quality", "scorer", "h", "--rows", str(tmp_path / "r"), *common, "-o", str(tmp_path / "q.ckpt"),
         "--encoder", "base-1", "--evaluated", str(tmp_path / "tested.npz"),
         "--measured", str(page.with_suffix(".json"))],
    )  # fmt: skip
    assert put.exit_code == 0, put.output
    trained = load_scorer(tmp_path / "q.ckpt")
    assert trained.card["quality"]["watched"]["tested"]["models"] == len(tested)
    assert trained.card["kind"] == "quality"
    assert set(trained.card["quality"]) == {"watched", "bands", "CASP12"}
    measured = {key: score["mean"] for key, score in values["scores"]["h, together"].items()}
    assert trained.card["quality"]["CASP12"] == measured
    assert isinstance(load_row(tmp_path / "r" / "h" / "seed-0.pt"), TrainedNetwork)


def test_an_unfrozen_encoder_starts_as_the_frozen_one_and_learns(
    rows: Path, sides: dict[str, list[Decoy]], encoder: StructureEncoder, tmp_path: Path
) -> None:
    network, _ = load_network(Path(__file__).parents[2] / "train" / "results" / "base-1.ckpt")
    shutil.copytree(rows / "r" / "base", tmp_path / "base")
    frozen = load_rows(tmp_path, only="base")["base"]
    made = EndToEnd(network, 1.0, frozen[0].network, frozen[0].scales).eval()
    before = predict(made, bare(sides["val"]))
    expected = predictions({"base": frozen}, sides["val"], [], rows / "cache")["base"][0]
    np.testing.assert_allclose(before.quality, expected.quality, atol=2e-3)
    for a, b in zip(before.residue_quality, expected.residue_quality, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-3)
    learning = twice(sides["train"])
    tuned = list(fine_tune_row("tuned", frozen[:1], network, learning, twice(sides["val"]) * 2, tmp_path))
    assert len(tuned) == 1
    kept = load_row(tmp_path / "tuned" / "seed-0.pt")
    assert not list(fine_tune_row("tuned", frozen[:1], network, learning, twice(sides["val"]) * 2, tmp_path))
    with pytest.raises(DecoyError, match=r"seed-0\.pt: was trained with different settings \(models"):
        list(fine_tune_row("tuned", frozen[:1], network, learning[1:], twice(sides["val"]) * 2, tmp_path))
    assert kept.record["validation"] != frozen[0].record["validation"]  # its own, not what it started from
    moved = kept.network.state_dict()["encoder.conv_out.weight"] - network.state_dict()["conv_out.weight"]
    assert float(moved.abs().max()) == 0  # of the score, which no quality sees
    changed = [
        float((kept.network.state_dict()[f"encoder.{n}"] - w).abs().max())
        for n, w in network.state_dict().items()
        if n.startswith("blocks")
    ]
    assert max(changed) > 1e-6
    predicted_one = predictions({"tuned": [kept]}, sides["val"], [], tmp_path)["tuned"][0]
    again = predict(tuned[0].network, bare(sides["val"]))
    np.testing.assert_allclose(predicted_one.quality, again.quality, atol=1e-6)
    with pytest.raises(DecoyError, match="requires a row of GraphQA on the readout mean"):
        list(fine_tune_row("t", load_rows(rows / "r")["head"], network, learning, sides["val"], tmp_path))
