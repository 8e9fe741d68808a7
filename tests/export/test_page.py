"""The page of a model card: all metadata are shown, and missing values are marked."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from protemb_export import cli
from protemb_export.card import as_metadata, make_card
from protemb_export.errors import ExportError
from protemb_export.page import as_page, read_card, read_evaluation
from protemb_export.pages import page_of
from protemb_export.verify import Parity
from protemb_sdk._base.errors import ProtembError
from protemb_sdk._model.models import BUNDLED, beside
from protemb_train.corpus.corpus import Corpus
from protemb_train.network.checkpoint import load_network
from protemb_train.network.config import NetworkConfig
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import BASE_1_TRAINING, PAPER_TRAINING
from protemb_train.pretrain.judge import judge

from .conftest import corpus_of

# Fixed by the contract, or meant for programs only.
NOT_SHOWN = {"alphabet", "golden", "sigma_range"}


@pytest.fixture(scope="module")
def corpus(chains, tmp_path_factory) -> Path:
    return corpus_of(chains[3:], tmp_path_factory.mktemp("corpus") / "native.arrow")


def checkpoint(family: str, folder: Path, corpus: Path) -> Path:
    """Write a checkpoint in the format of `protemb-train pretrain`."""
    torch.manual_seed(0)
    config = NetworkConfig(family=family, channels=8, bottleneck=4, dilations=(1, 2), noise_levels=4)
    network = ScoreNetwork(config)
    torch.nn.init.normal_(network.conv_out.weight, std=0.1)
    recipe = asdict(PAPER_TRAINING if family == "paper" else BASE_1_TRAINING)
    record = {
        "preset": f"{family}+",
        "recipe": {k: list(v) if isinstance(v, tuple) else v for k, v in recipe.items()},
        "corpus": corpus.name,
        "corpus_sha256": Corpus(corpus).sha256,
        "corpus_chains": 4,
        "origin": {"version": "9.9", "commit": "abcdef"},
    }
    loaded = {
        "global_step": 70,
        "hyper_parameters": {
            "network": config.as_dict(),
            "steps_planned": 80,
            "seed": 3,
            "record": record,
        },
        "state_dict": {f"network.{name}": value for name, value in network.state_dict().items()},
    }
    torch.save(loaded, folder / "last.ckpt")
    return folder / "last.ckpt"


def judged(path: Path, corpus: Path) -> Path:
    network, record = load_network(path)
    verdict = judge(network, list(Corpus(corpus))[:1]).as_dict()
    curve = [{"step": 40, "share": 0.93}, {"step": 70, "share": 0.87, "val_share": 0.91}]
    out = path.with_name("judged.json")
    out.write_text(json.dumps({"checkpoint": record, "curve": curve, "judgement": verdict}))
    return out


def graph_with(card: dict[str, Any], path: Path) -> Path:
    """Write a graph that contains only a card."""
    model = onnx.ModelProto()
    onnx.helper.set_model_props(model, as_metadata(card))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(params=["base", "paper"])
def made(request, corpus, tmp_path) -> Path:
    """A graph with the card of a trained and evaluated network."""
    path = checkpoint(request.param, tmp_path, corpus)
    network, record = load_network(path)
    card = make_card(network, "model", 1.0, record, "MIT", read_evaluation(judged(path, corpus), record))
    parity = Parity(1.5e-6, 2.5e-6, 3.5e-6, chains=60, shortest=30, longest=998)
    return graph_with(card | {"parity": parity.as_dict()}, tmp_path / "model.onnx")


def run(*arguments: object) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["protemb-export", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
    return done.value.code


def facts(value: Any) -> list[str]:
    """All values of nested metadata as text."""
    if isinstance(value, dict):
        return [fact for part in value.values() for fact in facts(part)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [fact for part in value for fact in facts(part)]
    return ["none" if value is None else str(value)]


def test_the_page_contains_all_metadata(made):
    card = read_card(made)
    page = as_page(card)
    # Losses are shown with three decimals and noise levels with three digits: tested below.
    losses = (
        card["judgement"].pop("levels"),
        card["judgement"].pop("floor"),
        card["judgement"].pop("mean_share"),
    )
    assert card["training"].pop("network") == card["network"]
    card["network"] |= {"sigma_max": 10, "sigma_min": 0.01}  # shown without a decimal point
    card["sigma"] = f"{card['sigma']:g}"
    shown = facts({name: value for name, value in card.items() if name not in NOT_SHOWN})
    assert len(shown) > 50
    assert not [fact for fact in shown if not re.search(rf"(?<![\w.]){re.escape(fact)}(?![\w.])", page)]
    levels, floor, mean = losses
    assert f"Mean {mean:.3f}; lowest possible value {floor:.3f}" in page and len(levels) == 4
    assert all(f"| {level['sigma']:.3g} | {level['share']:.3f} |" in page for level in levels)
    assert "| 70 | 0.87 | 0.91 |" in page and "| 40 | 0.93 |  |" in page
    family = card["network"]["family"]
    # The fourth chain is shorter than the crops.
    pairs = 70 * {"base": 8 * 64**2, "paper": 32 * 32**2}[family]
    assert f"| residue pairs seen | {pairs:,} |" in page
    assert "not recorded" not in page


def test_the_command_writes_the_page(made, tmp_path, capsys):
    assert run("card", made, "-o", tmp_path / "model.md") == 0
    assert (tmp_path / "model.md").read_text(encoding="utf-8") == as_page(read_card(made))
    capsys.readouterr()
    assert run("card", made, "-o", tmp_path / "no" / "model.md") == 1
    assert "does not exist; make it first" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.onnx", "x.json", "x.txt", "x.textproto"])
@pytest.mark.parametrize(
    "content",
    [None, b"", b"hello world", b"{}", b"\x00" * 64, b"\x08\xff\xff\xff", "no card", "{", "[1]"],
    ids=str,
)
def test_files_without_a_card_are_refused_with_one_line(tmp_path, name, content):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        model = onnx.ModelProto()
        if content != "no card":
            onnx.helper.set_model_props(model, {"protemb.card": content})
        path.write_bytes(model.SerializeToString())
    problem = r"cannot be read \(No such file" if content is None else "contains no model card; pass a graph"
    with pytest.raises(ExportError, match=rf"x\.\w+: {problem}") as refused:
        read_card(path)
    assert "\n" not in str(refused.value)
    with pytest.raises(ExportError, match=r"cannot be read \(Is a directory\); pass the path of an .onnx"):
        read_card(tmp_path)


def test_missing_values_are_marked():
    page = as_page({})
    assert page.startswith("# Model card: without a name\n") and "| licence | not recorded |" in page
    assert "Training curve" not in page and "Losses" not in page
    released = {"steps": None, "record": {"released by": "the paper's authors", "file": "model.pth"}}
    page = as_page({"name": "authors", "training": released, "sigma": 0.1})
    assert "| released by | the paper's authors |" in page and "| file | model.pth |" in page
    assert "| steps | not recorded |" in page and "residue pairs seen" not in page


def test_the_page_without_an_evaluation_has_no_losses(small):
    page = as_page(read_card(small.path))
    assert "| steps | 7 |" in page and f"| corpus (SHA-256) | {'0' * 64} |" in page
    assert "| kind | embedding graph |" in page and f"| noise level | {small.sigma:g} angstrom |" in page
    score = as_page(read_card(beside(small.path, "score")))
    assert "| kind | score graph |" in score and "| noise level | an input |" in score
    assert "## Known limits" in page and "Training curve" not in page and "Losses" not in page


def test_bundled_models_have_pages():
    pages = Path(__file__).resolve().parents[2] / "sdk" / "docs" / "models"
    for graph in BUNDLED.glob("*.onnx"):
        card = read_card(graph)
        if "readouts" in card:  # a predictor: the page in the repository is the one of the bundled file
            assert page_of(card) == (pages / f"{graph.stem}.md").read_text(encoding="utf-8")
        else:
            assert card["weights_sha256"] in as_page(card)


def test_an_evaluation_of_another_checkpoint_is_refused(corpus, tmp_path, capsys):
    path = checkpoint("base", tmp_path, corpus)
    _, record = load_network(path)
    found = judged(path, corpus)
    assert set(read_evaluation(found, record)) == {"judgement", "curve"}
    with pytest.raises(ExportError, match="is the evaluation of another checkpoint"):
        read_evaluation(found, record | {"steps": 71})
    out = tmp_path / "model.onnx"
    torch.save(torch.load(path, weights_only=True) | {"global_step": 71}, tmp_path / "other.ckpt")
    assert run("model", tmp_path / "other.ckpt", "-o", out, "--verify", corpus, "--judgement", found) == 1
    assert "evaluation of another checkpoint" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize("change", [lambda j: {}, lambda j: [], lambda j: j | {"judgement": {}}])
def test_files_that_are_not_evaluations_are_refused(corpus, tmp_path, change):
    path = checkpoint("base", tmp_path, corpus)
    found = judged(path, corpus)
    found.write_text(json.dumps(change(json.loads(found.read_text()))))
    with pytest.raises(ProtembError, match=r"judged\.json: is not an evaluation of protemb-train judge"):
        read_evaluation(found, load_network(path)[1])
    with pytest.raises(ProtembError, match=r"no\.json: is not an evaluation"):
        read_evaluation(tmp_path / "no.json", {})
