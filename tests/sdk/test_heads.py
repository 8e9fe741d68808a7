"""Heads by name and by path: heads that fit the model are loaded, others raise a clear error."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from protemb_sdk import DeviceError, Embedder, EmbeddingError, ModelError, QualityScorer, SitePredictor
from protemb_sdk._model import heads, models
from protemb_sdk._model.models import EXAMPLE
from protemb_sdk._predict.predictor import Predictor

Make = Callable[..., Path]


def test_a_head_in_a_file_loads_its_model(head: Path, embedder: Embedder) -> None:
    for given in (head, str(head)):
        predictor = SitePredictor(given, "cpu", threads=1)
        assert predictor.embedder.model.name == "base" and predictor.embedder._session.threads == 1
        assert predictor.threshold == 0.5 and predictor.card["quality"] == {"made up": {"auprc": 0.5}}
        assert repr(predictor).startswith("SitePredictor('tiny', device='cpu', Embedder('base'")
    shared = SitePredictor(head, embedder=embedder)
    assert shared.embedder is embedder
    assert shared.info.sha256 == hashlib.sha256(head.read_bytes()).hexdigest()
    assert shared.info.readouts == ("contact", "mean", "shell-6-10")


def test_an_embedding_that_a_head_cannot_use_is_refused(embedder: Embedder) -> None:
    sites, quality = SitePredictor(embedder=embedder), QualityScorer(embedder=embedder)
    small = Embedder("small", "cpu")
    other = small.embed(EXAMPLE)
    with pytest.raises(EmbeddingError, match=r"'base', not of 'small'; embed with the predictor's embedder"):
        sites.predict_embedding(small.embed(EXAMPLE, **sites.info.asked))
    with pytest.raises(EmbeddingError, match=r"has no profile; embed with profile=True, or with"):
        quality.predict_embedding(other)


@pytest.mark.parametrize("name", ["stes", "", "no/such.onnx", "x" * 5000, "a\0b"])
def test_the_error_for_an_unknown_head_lists_the_bundled_heads(name: str) -> None:
    with pytest.raises(ModelError, match=r"no head named .* bundled are .*pass the path of an \.onnx file"):
        SitePredictor(name)
    with pytest.raises(ModelError, match="head=7: pass the name of a bundled head"):
        SitePredictor(7)  # type: ignore[arg-type]


def test_a_path_equal_to_a_bundled_name_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^sites: no such file; pass a bundled head by its name alone"):
        SitePredictor(Path("sites"))


def test_every_bundled_head_loads() -> None:
    for name, entry in heads._registry().items():
        assert set(entry) == {"file", "encoder", "kind", "summary", "sha256"}
        kinds: dict[str, type[Predictor]] = {"sites": SitePredictor, "quality": QualityScorer}
        predictor = kinds[entry["kind"]](name, "cpu")
        assert predictor.info.name == name and predictor.info.encoder == entry["encoder"]
        assert predictor.card["kind"] == entry["kind"]


def test_a_bundled_head_is_verified(head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bundled"
    shutil.copytree(models.BUNDLED, folder)
    shutil.copy(head, folder / "mine.onnx")
    digest = hashlib.sha256(head.read_bytes()).hexdigest()
    entry = {"file": "mine.onnx", "encoder": "base", "kind": "sites", "summary": "a test", "sha256": digest}
    monkeypatch.setattr(heads, "BUNDLED", folder)
    monkeypatch.setattr(heads, "_registry", lambda: {"mine": entry})
    assert SitePredictor("mine", "cpu").info.sha256 == digest
    (folder / "mine.onnx").write_bytes(head.read_bytes() + b"\0")
    with pytest.raises(ModelError, match=r"mine\.onnx: the bundled model is damaged .*reinstall protemb-sdk"):
        SitePredictor("mine", "cpu")
    (folder / "mine.onnx").unlink()
    with pytest.raises(ModelError, match=r"mine\.onnx: cannot be read"):
        SitePredictor("mine", "cpu")


def test_files_that_are_not_heads_are_refused(make_head: Make, tmp_path: Path, embedder: Embedder) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"hello")
    with pytest.raises(ModelError, match=r"x\.onnx: is not a complete ONNX file"):
        SitePredictor(path, embedder=embedder)
    with pytest.raises(ModelError, match=r"base\.onnx: an ONNX file, but not a head of protemb's"):
        SitePredictor(models.BUNDLED / "base.onnx", embedder=embedder)
    with pytest.raises(ModelError, match=r"tiny\.onnx: an ONNX file, but not one of protemb's"):
        Embedder(make_head(tmp_path / "tiny.onnx"), "cpu")
    make_head(path, metadata={"protemb.head": "99"})
    with pytest.raises(ModelError, match="written for head contract 99, and this SDK supports 1; install"):
        SitePredictor(path, embedder=embedder)
    for card in ("not json", "{}", "[]", json.dumps({"kind": "sites"})):
        make_head(path, metadata={"protemb.head": "1", "protemb.card": card})
        with pytest.raises(ModelError, match=r"x\.onnx: its head metadata are incomplete .*export it again"):
            SitePredictor(path, embedder=embedder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"kind": "quality"}, "is a head for 'quality'; a head for 'sites' is needed here"),
        ({"readouts": ["contact", "min"]}, "wants what this SDK does not have: there is no readout 'min'"),
        ({"readouts": []}, "incomplete"),
        ({"readouts": ["max", "max"]}, "incomplete"),
        ({"readouts": "max"}, "incomplete"),
        ({"threshold": 50}, "incomplete"),
        ({"threshold": float("nan")}, "incomplete"),
        ({"encoder": {"name": "base"}}, "incomplete"),
    ],
)
def test_an_invalid_card_is_refused(
    make_head: Make, tmp_path: Path, embedder: Embedder, change: dict[str, object], match: str
) -> None:
    with pytest.raises(ModelError, match=match):
        SitePredictor(make_head(tmp_path / "x.onnx", **change), embedder=embedder)


def test_a_head_of_another_encoder_is_refused(make_head: Make, tmp_path: Path, embedder: Embedder) -> None:
    good = {"name": "base", "weights_sha256": embedder.card["weights_sha256"], "sigma": embedder.noise_level}
    for change in ({"weights_sha256": "0" * 64}, {"sigma": 2.5}):
        path = make_head(tmp_path / "x.onnx", encoder=good | change)
        for arguments in ({"embedder": embedder}, {"device": "cpu"}):
            with pytest.raises(ModelError, match=r"'tiny' was trained on 'base' .* use the Embedder of that"):
                SitePredictor(path, **arguments)  # type: ignore[arg-type]
    path = make_head(tmp_path / "x.onnx", encoder=good | {"name": "mine"})
    with pytest.raises(ModelError, match=r"model 'mine', which is not bundled and does not lie beside it as"):
        SitePredictor(path, "cpu")
    assert SitePredictor(path, embedder=embedder).info.encoder == "mine"


def test_a_graph_with_other_inputs_or_outputs_is_refused(
    head: Path, tmp_path: Path, embedder: Embedder
) -> None:
    onnx = pytest.importorskip("onnx")
    for part, name in (("input", "ca_coords"), ("output", "probability"), ("input", "features")):
        model = onnx.load(head)
        for value in getattr(model.graph, part):
            if value.name == name:
                value.name = "other"
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = ["other" if n == name else n for n in names]
        onnx.save(model, tmp_path / "x.onnx")
        with pytest.raises(
            ModelError, match=r"its graph takes .*other.*; head contract 1 takes features, re"
        ):
            SitePredictor(tmp_path / "x.onnx", embedder=embedder)


def test_a_graph_may_omit_inputs_that_it_does_not_use(head: Path, tmp_path: Path, embedder: Embedder) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(head)
    del model.graph.input[1:]
    onnx.save(model, tmp_path / "x.onnx")
    assert len(SitePredictor(tmp_path / "x.onnx", embedder=embedder).predict(([[0, 0, 0]], "A"))) == 1


def test_options_together_with_an_embedder_are_refused(head: Path, embedder: Embedder) -> None:
    for arguments in ({"device": "cpu"}, {"threads": 2}, {"altloc": "first"}):
        with pytest.raises(EmbeddingError, match="embedder= brings its own device, threads and options"):
            SitePredictor(head, embedder=embedder, **arguments)
    with pytest.raises(EmbeddingError, match="threads must be a whole number"):
        SitePredictor(head, threads=0)
    with pytest.raises(DeviceError, match="no device named 'gpu'"):
        SitePredictor(head, "gpu")
