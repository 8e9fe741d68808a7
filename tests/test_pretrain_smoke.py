"""Corpus, training, evaluation, export, model card and embedding, with the command-line programs."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

STEPS = 120
LEVELS, CHANNELS = 8, 16
CONFIG = f"""
preset = "base-1"
[network]
channels = {CHANNELS}
bottleneck = 8
dilations = [1, 2]
noise_levels = {LEVELS}
[training]
crops = [16, 24]
warmup_steps = 10
ema = 0.9
"""
# Chains that are not listed are clusters of their own.
CLUSTERS = "1A8O_A\n1LCD_A\n2BEG_A 2BEG_B 2BEG_C 2BEG_D 2BEG_E\n4ZHL_U\n"
TOLERANCE = 1e-4  # of the embedding's scale


@pytest.fixture(scope="module")
def made(structures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return the folder with all results, and the output of each command."""
    folder = tmp_path_factory.mktemp("smoke")
    (folder / "tiny.toml").write_text(CONFIG)
    (folder / "clusters.txt").write_text(CLUSTERS)
    output: dict[str, str] = {}

    def run(module: str, command: str, *arguments: object) -> None:
        line = [sys.executable, "-m", f"{module}.cli", command, *map(str, arguments)]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
        output[command] = done.stdout + done.stderr
        assert done.returncode == 0 and "Warning" not in output[command], f"{command}: {output[command]}"

    checkpoint, threads = "run/last.ckpt", ("--threads", 1)
    run("protemb_train", "corpus", structures, "-o", "corpus.arrow", "--clusters", "clusters.txt")
    training = ("--config", "tiny.toml", "--steps", STEPS, "--no-progress", *threads)
    run("protemb_train", "pretrain", "--corpus", "corpus.arrow", "-o", "run", *training)
    run(
        "protemb_train",
        "judge",
        checkpoint,
        "--split",
        "val",
        "--corpus",
        "corpus.arrow",
        "-o",
        "judged.json",
    )
    run("protemb_train", "compare", "tiny=judged.json", "same=judged.json", "-o", "compared.md")
    facts = ("--sigma", 1, "--judgement", "judged.json")
    verified = ("--verify", "corpus.arrow")
    run("protemb_export", "model", checkpoint, "-o", "plain.onnx", "--no-score", "--chains", 1, *verified)
    run("protemb_export", "model", checkpoint, "-o", "tiny.onnx", *verified, *facts)
    run("protemb_export", "card", "tiny.onnx", "-o", "tiny.md")
    sources = (structures / "1a8o.cif", structures / "2beg.pdb.gz")
    run("protemb_sdk", "embed", *sources, "-o", "out.npz", "--model", "tiny.onnx", "--pair", *threads)
    return folder, output


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def card_of(graph: Path) -> dict[str, Any]:
    fields = {field.key: field.value for field in onnx.load(graph).metadata_props}
    return json.loads(fields["protemb.card"])


def test_the_report_of_the_corpus(made: tuple[Path, dict[str, str]]) -> None:
    folder, output = made
    report = read(folder / "corpus.json")
    assert report["files"] == 12 and report["chains"] == report["chains read"] == 11
    assert report["skipped"] == {"not protein": 4, "too short": 5, "repeated id": 2}
    assert report["chains not in the cluster file"] == 3 and report["clusters"] == 7
    assert [report[f"{split} chains"] for split in ("train", "val", "test")] == [10, 1, 0]
    assert sum(report["lengths"].values()) == 11
    assert report["sha256"] in output["corpus"]
    with (folder / "corpus.skipped.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 11


def test_the_score_graph_can_be_left_out(made: tuple[Path, dict[str, str]]) -> None:
    folder, _ = made
    assert {path.name for path in folder.glob("*.onnx")} == {"plain.onnx", "tiny.onnx", "tiny-score.onnx"}


def test_the_loss_decreases(made: tuple[Path, dict[str, str]]) -> None:
    folder, output = made
    assert f"preset base-1+ on 10 chains, steps 0 to {STEPS}" in output["pretrain"]
    with (folder / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    share = np.array([float(row["share"]) for row in rows if row["share"]])
    validated = [float(row["val_share"]) for row in rows if row["val_share"]]
    assert len(share) == STEPS // 10 and np.isfinite(share).all()
    assert share[-3:].mean() < min(0.95, share[:3].mean())
    assert len(validated) == 1 and validated[0] < 1
    assert (folder / "run" / "best.ckpt").exists()


def test_the_model_is_evaluated_and_compared(made: tuple[Path, dict[str, str]]) -> None:
    folder, output = made
    loaded = read(folder / "judged.json")
    judgement = loaded["judgement"]
    assert len(judgement["levels"]) == LEVELS and judgement["chains"] == 1
    assert judgement["floor"] < judgement["mean_share"] < 1
    assert f"mean share {judgement['mean_share']:.3f} over 1 chains" in output["judge"]
    assert loaded["curve"][-1]["step"] == STEPS
    assert loaded["checkpoint"]["record"]["corpus_sha256"] == read(folder / "corpus.json")["sha256"]
    shares = [level["share"] for level in judgement["levels"]]
    table = [line.split("|")[2] for line in (folder / "judged.md").read_text().splitlines() if "| 0." in line]
    assert [cell.strip() for cell in table[-LEVELS:]] == [f"{share:.3f}" for share in shares]
    compared = (folder / "compared.md").read_text()
    assert "| tiny | same |" in compared
    assert all(f"| {cell.strip()} | {cell.strip()} |" in compared for cell in table[-LEVELS:])
    assert (folder / "compared.png").read_bytes().startswith(b"\x89PNG")


def test_the_model_is_exported_and_verified_with_a_card(made: tuple[Path, dict[str, str]]) -> None:
    folder, output = made
    card = card_of(folder / "tiny.onnx")
    assert max(card["parity"][level] for level in ("pair", "residue", "protein")) < TOLERANCE
    assert card["parity"]["chains"] == 6  # the five of 2BEG are shorter than 30
    assert card_of(folder / "tiny-score.onnx")["parity"]["score"] < TOLERANCE
    assert "noise level 1 angstrom" in output["model"]
    page = (folder / "tiny.md").read_text(encoding="utf-8")
    judgement = read(folder / "judged.json")["judgement"]
    facts = [
        f"| weights (SHA-256) | {card['weights_sha256']} |",
        f"| corpus (SHA-256) | {read(folder / 'corpus.json')['sha256']} |",
        f"| steps | {STEPS} |",
        "| noise level | 1 angstrom |",
        "| licence | MIT |",
        "| warmup steps | 10 |",
        f"Mean {judgement['mean_share']:.3f}; lowest possible value {judgement['floor']:.3f}.",
        *(f"| {level['sigma']:.3g} | {level['share']:.3f} |" for level in judgement["levels"]),
    ]
    assert not [fact for fact in facts if fact not in page]


def test_the_exported_model_gives_the_embeddings_of_the_network(
    made: tuple[Path, dict[str, str]], structures: Path
) -> None:
    from protemb_export.verify import torch_pair
    from protemb_sdk._structure.reader import read_chains
    from protemb_train.network.checkpoint import load_network

    folder, _ = made
    network, _ = load_network(folder / "run" / "last.ckpt")
    chains = [
        chain
        for name in ("1a8o.cif", "2beg.pdb.gz")
        for chain in read_chains(structures / name).chains
    ]  # fmt: skip
    with np.load(folder / "out.npz") as found:
        assert [str(name) for name in found["id"]] == [chain.id for chain in chains]
        length = np.array([len(chain) for chain in chains])
        assert np.diff(found["offset"]).tolist() == length.tolist()
        assert found["protein"].shape == (len(chains), CHANNELS)
        assert found["residue"].shape == (length.sum(), CHANNELS)
        assert found["pair"].shape == ((length**2).sum(), CHANNELS)
        for i, chain in enumerate(chains):
            wanted = torch_pair(network, chain, 1.0)
            limit = TOLERANCE * np.abs(wanted).max()
            pair = found["pair"][slice(*found["pair_offset"][i : i + 2])]
            residue = found["residue"][slice(*found["offset"][i : i + 2])]
            assert np.abs(pair.reshape(wanted.shape) - wanted).max() < limit
            assert np.abs(residue - wanted.mean(axis=1)).max() < limit
            assert np.abs(found["protein"][i] - wanted.mean(axis=(0, 1))).max() < limit
