"""A quality scorer from PyTorch to the SDK: exported, verified, run without torch, told on a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from protemb_export import head as heads
from protemb_export.cli import app
from protemb_export.head import pack_head
from protemb_export.page import read_card
from protemb_export.quality_page import MADE, as_quality_page
from protemb_sdk import QualityScorer
from protemb_sdk._model.models import EXAMPLE
from protemb_sdk._structure.chain import Chain
from protemb_train.commands.sites import READOUTS
from protemb_train.downstream.common.embeddings import StructureEncoder
from protemb_train.downstream.quality.decoys import KINDS
from protemb_train.downstream.quality.naming import FEATURES, Namer
from protemb_train.downstream.quality.scorer import Trained, load_scorer, save_scorer
from protemb_train.downstream.quality.scorer_model import QualityModel, for_export
from protemb_train.downstream.quality.trained import make_network

MEASURED = {
    "watched": {
        "hinges": {
            "models": 9, "gdt_ts": 0.5, "predicted": 0.4, "rmse": 0.1, "r": 0.9, "rho_decoy": 0.3
        },
        "casp11": {
            "models": 8, "gdt_ts": 0.3, "predicted": 0.4, "rmse": 0.2, "r": 0.8, "rho_decoy": 0.2
        },
    },
    "CASP12": {"gdt_ts_r_target": 0.7, "gdt_ts_z": 1.2},
}  # fmt: skip


TRAINED = [
    ("head", "base-1", READOUTS, 4 * 64),
    ("residues", "base", ("residue", "profile", "mean"), 395 + 21 + 64),
    ("compatibility", "base", ("profile", "residue", "mean"), 21 + 395 + 64),
    ("both", "base", ("profile", "residue", "mean"), 21 + 395 + 64),
]


@pytest.fixture(scope="module", params=TRAINED, ids=lambda made: f"{made[0]}-{made[1]}")
def trained(request: pytest.FixtureRequest) -> Trained:
    """Two networks at random, as far from their start as training would take them."""
    torch.manual_seed(1)
    kind, model, readouts, channels = request.param
    about = StructureEncoder(model, readouts, threads=1).about
    namer = None
    if kind in ("compatibility", "both"):  # scales its own features
        made = [make_network("compatibility", channels, 0) for _ in range(2)]
        means, spreads = torch.zeros(2, channels), torch.ones(2, channels)
        if kind == "both":  # and GraphQA with and without an embedding
            made[1] = make_network("residues", channels, 0)
            made.append(make_network("residues", 0, 0))
            means, spreads = torch.zeros(3, channels), torch.ones(3, channels)
    else:
        namer = Namer()
        namer.background.normal_()
        made = [make_network(kind, channels, 0, FEATURES, namer) for _ in range(2)]
        means, spreads = torch.randn(2, channels), torch.rand(2, channels) + 0.5
        spreads[0, 3] = torch.inf  # a channel that never varied
    card = {
        "kind": "quality",
        "encoder": {
            "name": about["encoder"],
            "weights_sha256": about["weights_sha256"],
            "sigma": about["sigma"],
        },
        "readouts": list(readouts),
        "quality": MEASURED,
        "training": {
            "models": 10,
            "targets": 2,
            "epochs": 1,
            "networks": "2 of a test",
            "origin": {"version": "0"},
        },
    }
    return Trained(QualityModel(made, list(means), list(spreads), namer).eval(), card)


@pytest.fixture(scope="module")
def packed(trained: Trained, chains: list[Chain], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    save_scorer(trained, folder / "q.ckpt")
    worst = pack_head(
        load_scorer(folder / "q.ckpt"), folder / "mine.onnx", name="mine", licence="MIT", chains=chains
    )
    assert worst < 1e-5
    return folder / "mine.onnx"


def test_scores_equal_pytorch(packed: Path, trained: Trained, chains: list[Chain]) -> None:
    """Chains of 1, 2 and 3 residues among them."""
    scorer = QualityScorer(packed, "cpu")
    model = cast(QualityModel, trained.model)
    assert heads._deviation(scorer, for_export(model), chains) < 1e-5
    assert heads._deviation(scorer, model, chains) < 2e-3  # rounding of folded weights
    golden = read_card(packed)["golden"]
    found = scorer.score(EXAMPLE)
    assert golden["gdt_ts"] == [pytest.approx(found.gdt_ts, rel=1e-4)]
    assert golden["lddt"] == [pytest.approx(found.lddt, rel=1e-4)]
    np.testing.assert_allclose(found.residue_lddt[:10], golden["residue_lddt"], rtol=1e-4)


def test_scores_are_invariant_to_rotation(packed: Path, chains: list[Chain]) -> None:
    scorer, chain = QualityScorer(packed, "cpu"), chains[3]
    turn = np.array([[0.0, -1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]])
    turned = scorer.score(replace(chain, ca_coords=chain.ca_coords @ turn.T + 40.0))
    here = scorer.score(chain)
    np.testing.assert_allclose(turned.residue_lddt, here.residue_lddt, atol=1e-3)
    assert turned.gdt_ts == pytest.approx(here.gdt_ts, abs=1e-3)


def test_the_page_lists_the_evaluated_models(packed: Path, tmp_path: Path) -> None:
    page = as_quality_page(read_card(packed))
    for part in (
        "# Model card: mine",
        "gdt ts r target",
        "0.700",
        "| casp11 | 8 |",
        "generated: torsions changed",
    ):
        assert part in page
    assert "not recorded" not in page.split("## Training")[0]
    assert list(MADE) == list(KINDS)
    out = tmp_path / "page.md"
    result = CliRunner().invoke(app, ["card", str(packed), "-o", str(out)])
    assert result.exit_code == 0 and out.read_text(encoding="utf-8") == page
