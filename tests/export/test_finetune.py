"""A table of the user becomes a predictor in one command, used without PyTorch; bad tables are refused."""

from __future__ import annotations

import copy
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from protemb_export import cli
from protemb_export import head as heads
from protemb_export.errors import ParityError
from protemb_export.head import pack_head
from protemb_sdk import Chain, Embedder, LabelPredictor, ModelError, QualityScorer, read_chain, read_chains
from protemb_sdk import cli as sdk_cli
from protemb_sdk._base.errors import ProtembError
from protemb_sdk._model.readouts import asked_for
from protemb_sdk._predict.predictor import features_of
from protemb_train.downstream.labels import unfrozen
from protemb_train.downstream.labels.head import (
    READOUTS,
    LabelModel,
    TrainedLabels,
    load_labels,
    save_labels,
)
from protemb_train.downstream.labels.table import LabelTable, read_labels
from protemb_train.downstream.labels.training import train_labels, vectors_for
from protemb_train.network.checkpoint import load_network

from .conftest import Run, written


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def label_files(files: list[Path], folder: Path) -> dict[str, Path]:
    """Residues: curled or straight, by C-alphas four apart. Proteins: their density, a quantity."""
    residues, proteins = [], []
    for file in files:
        try:
            chains = read_chains(file).chains
        except ProtembError:
            continue
        for chain in chains:
            apart = np.linalg.norm(chain.ca_coords[:, None] - chain.ca_coords, axis=-1)
            ahead = np.diagonal(apart, 4)
            numbers = [f"{n}{c}" for n, c in zip(chain.auth_seq, chain.insertion_code, strict=True)]
            residues += [
                (file.name, chain.chain_id, number, "curled" if distance < 7 else "straight")
                for number, distance in zip(numbers, ahead, strict=False)
            ]
            proteins.append((file.name, chain.chain_id, (apart < 10).mean()))
    return {
        "residue": written(folder / "residues.csv", "structure chain residue label", residues),
        "protein": written(folder / "proteins.csv", "structure chain label", proteins),
    }


@pytest.fixture(scope="module")
def tables(structures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return label_files(sorted(structures.iterdir()), tmp_path_factory.mktemp("labels"))


@pytest.fixture(scope="module")
def residue_head(tables: dict[str, Path], structures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("heads") / "curled.onnx"
    options = ("--labels", tables["residue"], "--structures", structures, "-o", out, "--threads", 1)
    line = [sys.executable, "-m", "protemb_export.cli", "finetune", *map(str, options)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert "on held-out families" in done.stdout and "residue types alone" in done.stdout
    assert "held-out chains; with fewer than 20 the rows may differ by chance" in " ".join(
        done.stderr.split()
    )
    return out


WITHOUT_TORCH = """
import json, sys
sys.modules["torch"] = sys.modules["sklearn"] = None
from protemb_sdk import LabelPredictor
prediction = LabelPredictor(sys.argv[1], "cpu").predict(sys.argv[2])
print(json.dumps([prediction.value.tolist(), prediction.label.tolist()]))
"""


def test_a_table_gives_a_predictor_without_torch(residue_head: Path, structures: Path) -> None:
    predictor = LabelPredictor(residue_head, "cpu")
    output = predictor.predict(structures / "1orc.pdb")
    assert output.classes == ("curled", "straight") and output.per_residue and output.value.shape == (64, 2)
    np.testing.assert_allclose(output.value.sum(axis=1), 1, atol=1e-5)
    assert set(output.label) <= set(output.classes) and output.provenance["head"] == "curled"
    assert len(output) == 64
    assert repr(output) == f"LabelPrediction({output.id}: one of curled, straight, each residue)"
    line = [sys.executable, "-c", WITHOUT_TORCH, str(residue_head), str(structures / "1orc.pdb")]
    value, label = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    np.testing.assert_allclose(value, output.value, atol=1e-6)
    assert label == output.label.tolist()


def test_held_out_families_are_not_used_in_training(residue_head: Path) -> None:
    card = LabelPredictor(residue_head, "cpu").card
    training = card["training"]
    assert sum(training["chains"]) == 18 and min(training["chains"]) > 0
    assert len(training["ids"]) == training["chains"][0]
    assert set(card["quality"]) == {"embedding", "residue types alone", "commonest class"}


def test_embeddings_predict_better_than_residue_types(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    files = sorted((shared_data / "structures" / "pdb").iterdir())[:60]
    for file in files:
        (folder / file.name).symlink_to(file)
    table = read_labels(label_files(files, tmp_path)["residue"], folder, "residue")
    quality = train_labels(table, Embedder(device="cpu", threads=1)).card["quality"]
    score = {name: row["balanced_accuracy"] for name, row in quality.items()}
    assert score["embedding"] > score["residue types alone"] + 0.2 and score["commonest class"] == 0.5


def test_predictions_are_written_as_a_table(
    residue_head: Path, structures: Path, command: Run, tmp_path: Path
) -> None:
    out = tmp_path / "labels.csv"
    inputs = (structures / "1orc.pdb", structures / "2beg.pdb.gz", structures / "README.md")
    status, output, err = command(sdk_cli, "predict", *inputs, "--head", residue_head, "-o", out)
    assert status == 0 and f"6 chains -> {out}" in output and "README.md" in err
    rows = table_of(out)
    predictor = LabelPredictor(residue_head, "cpu")
    alone = predictor.predict(structures / "1orc.pdb")
    mine = [row for row in rows if row["source"].endswith("1orc.pdb")]
    assert [row["label"] for row in mine] == alone.label.tolist()
    np.testing.assert_allclose([float(r["probability_straight"]) for r in mine], alone.value[:, 1], atol=1e-6)
    assert mine[0]["auth_seq"] == "3"
    status, _, err = command(sdk_cli, "predict", tmp_path / "no.pdb", "--head", residue_head, "-o", out)
    assert status == 1 and "no such file" in err
    for name in "ab":
        (tmp_path / f"{name}.pdb").write_text("nothing")
    written = out.read_bytes()
    status, _, err = command(sdk_cli, "predict", tmp_path, "--head", residue_head, "-o", out)
    assert status == 1 and "none of the 2 inputs could be embedded" in err and err.count("skipped: ") == 2
    assert out.read_bytes() == written


def test_a_quantity_of_proteins(
    tables: dict[str, Path], structures: Path, command: Run, tmp_path: Path
) -> None:
    out, said_file = tmp_path / "density.onnx", tmp_path / "said.csv"
    options = ("--labels", tables["protein"], "--structures", structures, "--task", "protein", "-o", out)
    status, output, err = command(cli, "finetune", *options)
    assert status == 0 and "pearson" in output and "a quantity" in err
    predictor = LabelPredictor(out, "cpu")
    one = predictor.predict(structures / "1orc.pdb")
    assert one.classes is None and not one.per_residue and one.value.shape == () and one.label == one.value
    status, _, _ = command(sdk_cli, "predict", structures / "1orc.pdb", "--head", out, "-o", said_file)
    (row,) = table_of(said_file)
    assert status == 0 and float(row["label"]) == pytest.approx(float(one.value), abs=1e-5)
    with pytest.raises(ModelError, match=r"is a head for 'protein-label'; a head for 'quality' is needed"):
        QualityScorer(out, "cpu")
    with pytest.raises(ModelError, match=r"is a head for 'sites'; a head for 'residue-label' or"):
        LabelPredictor("sites", "cpu")


@pytest.mark.parametrize("size", [1e-6, 1.0, 3e5])
def test_a_quantity_of_any_size_is_verified_by_its_scale(
    structures: Path, tmp_path: Path, size: float
) -> None:
    embedder = Embedder("small-1", "cpu", threads=1)
    chains = [read_chain(structures / name) for name in ("1orc.pdb", "1a8o.pdb")]
    torch.manual_seed(0)
    model = LabelModel(True, embedder.channels * len(READOUTS), 1, False).eval()
    model.scale.fill_(size)
    card = {
        "kind": "residue-label",
        "encoder": {
            "name": "small-1",
            "weights_sha256": embedder.card["weights_sha256"],
            "sigma": embedder.noise_level,
        },
        "readouts": list(READOUTS),
        "classes": None,
    }
    trained, out = TrainedLabels(model, card), tmp_path / "mass.onnx"
    options: dict[str, Any] = {"name": "mass", "licence": "none", "chains": chains, "embedder": embedder}
    assert pack_head(trained, out, **options) < 1e-5
    differs = copy.deepcopy(model)
    differs.scale.mul_(1.001)
    predictor = LabelPredictor(out, embedder=embedder)
    assert heads._deviation(predictor, differs, chains) == pytest.approx(1e-3, rel=0.1)
    with pytest.raises(ParityError, match="no chain to verify on"):
        pack_head(trained, out, **options | {"chains": []})


def test_training_is_repeatable_and_saved(tables: dict[str, Path], structures: Path, tmp_path: Path) -> None:
    table = read_labels(tables["protein"], structures, "protein")
    embedder = Embedder(device="cpu", threads=1)
    first, second = (train_labels(table, embedder) for _ in range(2))
    assert first.card == second.card
    save_labels(first, tmp_path / "labels.pt")
    loaded = load_labels(tmp_path / "labels.pt")
    assert loaded.card == first.card
    for name, weight in second.model.state_dict().items():
        assert (loaded.model.state_dict()[name] == weight).all()
    with pytest.raises(ModelError):
        load_labels(tables["protein"])


def test_a_head_of_wrong_classes_is_refused(residue_head: Path, tmp_path: Path, structures: Path) -> None:
    graph = onnx.load(residue_head)
    fields = {entry.key: entry.value for entry in graph.metadata_props}
    for classes, sentence in ((["one"], "metadata are incomplete"), (["a", "b", "c"], "gave no value")):
        card = json.loads(fields["protemb.card"]) | {"classes": classes}
        onnx.helper.set_model_props(graph, fields | {"protemb.card": json.dumps(card)})
        onnx.save(graph, tmp_path / "wrong.onnx")
        with pytest.raises(ProtembError, match=sentence):
            LabelPredictor(tmp_path / "wrong.onnx", "cpu").predict(structures / "1orc.pdb")


# --- the encoder too ------------------------------------------------------------------------------

CHECKPOINT = Path(__file__).resolve().parents[2] / "train" / "results" / "small-1.ckpt"


@pytest.fixture(scope="module")
def table(tables: dict[str, Path], structures: Path) -> LabelTable:
    return read_labels(tables["residue"], structures, "residue")


@pytest.mark.parametrize("model", ["small-1", "small", "base"])
def test_the_encoder_is_trained_on_the_vectors_of_the_sdk(model: str, structures: Path) -> None:
    """Of contract 1 and 2; with a residue of unknown type."""
    embedder, network = Embedder(model, "cpu", threads=1), load_network(CHECKPOINT.with_stem(model))[0]
    read = read_chain(structures / "1orc.pdb")
    chain = Chain.from_arrays(read.ca_coords, f"{read.sequence[:5]}X{read.sequence[6:]}", read.residue_index)
    names = vectors_for(embedder)
    expected = features_of(embedder.embed_chain(chain, **asked_for(names)), names)
    coords, types, index = (
        torch.from_numpy(array)[None]
        for array in (chain.centred_coords.astype(np.float32), chain.residue_type, chain.residue_index)
    )
    with torch.inference_mode():
        found = unfrozen._features(network, coords, types, index, torch.tensor([embedder.noise_level]))
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


def test_encoder_training_starts_from_the_trained_head(
    table: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_network(CHECKPOINT)[0]
    embedder = Embedder("small-1", "cpu", threads=1)
    trained = train_labels(table, embedder)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    monkeypatch.setattr(unfrozen, "EPOCHS", 2)
    monkeypatch.setattr(unfrozen, "RATE", 1.0)  # ruins it
    model, tuned, losses = unfrozen.train_on(trained, network, embedder.noise_level, table)
    assert len(losses) == 3 and losses[0] < min(losses[1:])
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) and torch.equal(tuned.state_dict()[name], before[name])
    for name, value in trained.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    monkeypatch.setattr(unfrozen, "RATE", 1e-4)
    _, tuned, losses = unfrozen.train_on(trained, network, embedder.noise_level, table)
    assert min(losses[1:]) < losses[0]
    assert any(not torch.equal(value, before[name]) for name, value in tuned.state_dict().items())


def test_a_head_loads_its_fine_tuned_encoder(
    tables: dict[str, Path], structures: Path, tmp_path: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfrozen, "EPOCHS", 2)
    out = tmp_path / "curled.onnx"
    options = ("--labels", tables["residue"], "--structures", structures, "-o", out, "--threads", 1)
    status, output, _ = command(cli, "finetune", *options, "--model", "small-1", "--unfreeze", CHECKPOINT)
    assert status == 0 and "embedding, encoder trained too" in output
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curled-encoder.onnx", "curled.onnx"]
    predictor = LabelPredictor(out, "cpu")
    weights = predictor.embedder.card["weights_sha256"]
    own = Embedder("small-1").card["weights_sha256"]
    assert weights == predictor.card["encoder"]["weights_sha256"] != own
    assert predictor.embedder.card["training"]["finetuned"]["from_weights_sha256"] != weights
    line = [sys.executable, "-c", WITHOUT_TORCH, str(out), str(structures / "1orc.pdb")]
    value, _ = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    np.testing.assert_allclose(value, predictor.predict(structures / "1orc.pdb").value, atol=1e-6)
    status, _, err = command(cli, "finetune", *options, "--model", "base", "--unfreeze", CHECKPOINT)
    assert status == 1 and "is not the checkpoint of the model base" in err
    (tmp_path / "curled-encoder.onnx").unlink()
    with pytest.raises(ModelError, match=r"does not lie beside it as curled-encoder\.onnx; pass embedder="):
        LabelPredictor(out, "cpu")


def test_an_encoder_that_does_not_improve_is_not_written(
    tables: dict[str, Path], structures: Path, tmp_path: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfrozen, "EPOCHS", 1)
    monkeypatch.setattr(unfrozen, "RATE", 1.0)  # ruins it
    out = tmp_path / "curled.onnx"
    (tmp_path / "curled-encoder.onnx").write_text("an older head's")
    options = ("--labels", tables["residue"], "--structures", structures, "-o", out, "--threads", 1)
    status, output, err = command(cli, "finetune", *options, "--model", "small-1", "--unfreeze", CHECKPOINT)
    assert status == 0 and "it is left unchanged" in err and "encoder trained too" not in output
    assert [file.name for file in tmp_path.iterdir()] == ["curled.onnx"]
    predictor = LabelPredictor(out, "cpu")
    assert predictor.card["encoder"]["name"] == "small-1" and len(predictor.card["quality"]) == 3
    assert predictor.predict(structures / "1orc.pdb").value.shape == (64, 2)


def test_finetune_is_listed_in_the_help() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from protemb_export.app import main; sys.argv[1:] = ['--help']; "
         "\ntry: main()\nfinally: assert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert all(f" {name} " in done.stdout for name in ("finetune", "embed", "predict"))
