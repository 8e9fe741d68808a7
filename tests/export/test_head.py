"""A predictor that is trained on labelled chains, exported, verified and run with ONNX Runtime."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protemb_export import head as heads
from protemb_export.errors import ExportError, ParityError
from protemb_export.head import pack_head, register_head
from protemb_export.head_page import as_head_page
from protemb_export.page import read_card
from protemb_sdk import SitePredictor
from protemb_sdk._structure.chain import Chain
from protemb_train.downstream.common.embeddings import StructureEncoder
from protemb_train.downstream.sites.data import SiteChain
from protemb_train.downstream.sites.predictor import Trained, load_predictor, save_predictor, train_predictor


def labelled(chain: Chain, split: str) -> SiteChain:
    """A chain whose charged residues are the sites, which can be learnt from little data."""
    length = len(chain)
    return SiteChain(
        id=f"{chain.id}-{split}",
        split=split,
        sequence=chain.sequence,
        label=np.array([letter in "DEKR" for letter in chain.sequence]),
        pssm=np.zeros((length, 20), dtype=np.float32),
        structure=np.zeros((length, 9), dtype=np.float32),
        ca_coords=chain.ca_coords,
        cut=length,
    )


@pytest.fixture(scope="module")
def trained(chains: list[Chain]) -> Trained:
    encoder = StructureEncoder("base", ("mean", "contact"), threads=1)
    whole = [labelled(chain, "train") for chain in chains[3:]] * 2
    return train_predictor(whole, encoder, {"test": [replace(c, split="test") for c in whole[:2]]}, heads=2)


@pytest.fixture(scope="module")
def packed(trained: Trained, chains: list[Chain], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("head")
    save_predictor(trained, folder / "sites.ckpt")
    out = folder / "mine.onnx"
    worst = pack_head(load_predictor(folder / "sites.ckpt"), out, name="mine", licence="MIT", chains=chains)
    assert worst < 1e-5
    return out


def test_predictions_of_the_sdk_equal_pytorch(packed: Path, trained: Trained, chains: list[Chain]) -> None:
    """Chains of 1, 2 and 3 residues are included."""
    predictor = SitePredictor(packed, "cpu")
    assert heads._deviation(predictor, trained.model, chains) < 1e-5
    for chain in chains:
        found = predictor.predict(chain)
        assert found.probability.shape == (len(chain),) and found.probability.dtype == np.float32


def test_predictions_are_invariant_to_rotation(packed: Path, chains: list[Chain]) -> None:
    predictor, chain = SitePredictor(packed, "cpu"), chains[3]
    turn = np.array([[0.0, -1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]])
    turned = replace(chain, ca_coords=chain.ca_coords @ turn.T + 40.0)
    np.testing.assert_allclose(
        predictor.predict(turned).probability, predictor.predict(chain).probability, atol=1e-3
    )


def test_the_card_contains_the_measured_quality(packed: Path, trained: Trained) -> None:
    card = read_card(packed)
    assert card["name"] == "mine" and card["quality"] == trained.card["quality"]
    predictor = SitePredictor(packed, "cpu")
    golden = card["golden"]["probability"]
    from protemb_sdk._model.models import EXAMPLE

    np.testing.assert_allclose(predictor.predict(EXAMPLE).probability[: len(golden)], golden, rtol=1e-4)
    page = as_head_page(card)
    for part in ("# Model card: mine", "| test | ", "AUPRC", "mean, contact", "Known limits", "one chain"):
        assert part in page
    assert "not recorded" not in page.split("## Training")[0]


def test_a_head_that_differs_from_pytorch_is_not_written(
    trained: Trained, chains: list[Chain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "TOLERANCE", 0.0)
    with pytest.raises(ParityError, match="not written"):
        pack_head(trained, tmp_path / "x.onnx", name="x", licence="MIT", chains=chains)
    assert not list(tmp_path.iterdir())


def test_a_head_is_registered_with_its_hash(
    packed: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError):
        register_head(packed, "elsewhere", trained.card)
    monkeypatch.setattr(heads, "check_bundled", lambda path: path)
    register_head(packed, "a summary", trained.card)
    entry = json.loads(packed.with_name("heads.json").read_text(encoding="utf-8"))["mine"]
    assert entry["summary"] == "a summary" and len(entry["sha256"]) == 64
