"""The model card for the Hugging Face Hub: YAML metadata, an example that runs, and the facts of the card."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from protemb_export import cli
from protemb_export.hugging_face import as_hugging_face_page
from protemb_export.page import as_page, read_card
from protemb_export.pages import page_of
from protemb_export.words import in_words
from protemb_sdk._model.models import BUNDLED, EXAMPLE


def front_matter(page: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="needs the extra docs")
    assert page.startswith("---\n")
    return dict(yaml.safe_load(page.split("\n---\n", 1)[0].removeprefix("---\n")))


@pytest.mark.parametrize("graph", sorted(BUNDLED.glob("*.onnx")), ids=lambda path: path.stem)
def test_cards_of_bundled_graphs_have_metadata_and_all_facts(graph: Path) -> None:
    card = read_card(graph)
    page = as_hugging_face_page(card)
    fields = front_matter(page)
    assert fields["license"] == "mit" and fields["library_name"] == "protemb-sdk"
    assert "protein-structure" in fields["tags"]
    assert (fields.get("pipeline_tag") == "feature-extraction") == (card["kind"] == "embedding")
    assert page.count(in_words(card)) == 1
    assert all(part in page for part in page_of(card).split("\n\n"))


@pytest.mark.parametrize("name", ["base", "small", "sites", "quality"])
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = as_hugging_face_page(read_card(BUNDLED / f"{name}.onnx"))
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    for file in (BUNDLED / f"{name}.onnx", EXAMPLE):
        shutil.copy(file, tmp_path / file.name)
    monkeypatch.chdir(tmp_path)
    exec(code, {})


def test_the_command_writes_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = BUNDLED / "small.onnx"
    out = tmp_path / "README.md"
    monkeypatch.setattr(sys, "argv", ["protemb-export", "card", str(graph), "-o", str(out), "--hugging-face"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 0
    assert out.read_text(encoding="utf-8") == as_hugging_face_page(read_card(graph))


@pytest.mark.parametrize("licence", ["GPL-3.0: see # below", "- none\n---", None])
def test_any_licence_gives_valid_metadata(licence: str | None) -> None:
    fields = front_matter(as_hugging_face_page({"kind": "embedding", "name": "x", "licence": licence}))
    assert (fields.get("license"), fields.get("license_name")) == ("other" if licence else None, licence)


def test_words_state_the_recorded_facts_only() -> None:
    card = read_card(BUNDLED / "small.onnx")
    words = in_words(card)
    assert f"{card['training']['record']['corpus_chains']:,} chains" in words
    assert f"{card['judgement']['mean_share']:.3f} of that of predicting zero" in words
    assert words in as_page(card)
    assert "chains" not in in_words({"kind": "embedding"})
    assert "`base` with" in in_words(read_card(BUNDLED / "base-int8.onnx"))
    sites = read_card(BUNDLED / "sites.onnx")
    assert f"{sites['quality']['Test_60']['auprc']:.3f} on Test_60" in in_words(sites)
    assert "each residue" in in_words({"kind": "residue-label", "encoder": {"name": "base"}})


def test_a_predictor_names_the_model_that_has_the_weights_it_was_trained_on() -> None:
    card = read_card(BUNDLED / "quality.onnx")
    assert "from embeddings of `base`:" in in_words(card)
    # Trained when the model that is now base-1 was called base.
    former = read_card(BUNDLED / "base-1.onnx")["weights_sha256"]
    card |= {"encoder": {**card["encoder"], "weights_sha256": former}}
    assert "from embeddings of `base-1`:" in in_words(card)
