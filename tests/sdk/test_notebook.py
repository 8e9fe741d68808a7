"""What notebooks show: a picture and a table of each result, with names from files escaped."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protemb_sdk import Embedder, Embedding, LabelPrediction, QualityScore, SitePrediction, SitePredictor
from protemb_sdk._base.notebook import card, listing
from protemb_sdk._embed.picture import SMALL, thumbnail
from protemb_sdk.search import Hit, Hits

EVIL = "<img src=x onerror=alert(1)>&\"'"
SAFE = "&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#x27;"
Make = Callable[..., Embedding]


def results_of(embedding: Embedding) -> list[Any]:
    """Return one result of each kind for a chain."""
    chain, values = embedding.chain, np.linspace(0, 1, len(embedding), dtype=np.float32)
    origin = {"model": EVIL, "head": "h"}
    labels = np.stack([values, 1 - values], axis=1)
    return [
        replace(embedding, provenance={"model": EVIL}),
        SitePrediction(chain=chain, probability=values, threshold=0.5, provenance=origin),
        SitePrediction(chain=chain, probability=values, threshold=float("inf"), provenance=origin),
        QualityScore(chain=chain, gdt_ts=0.5, lddt=0.75, residue_lddt=values, provenance=origin),
        LabelPrediction(chain=chain, value=labels, classes=(EVIL, "b"), per_residue=True, provenance=origin),
        LabelPrediction(
            chain=chain, value=labels[0], classes=(EVIL, "b"), per_residue=False, provenance=origin
        ),
        LabelPrediction(chain=chain, value=values, classes=None, per_residue=True, provenance=origin),
        LabelPrediction(chain=chain, value=values[0], classes=None, per_residue=False, provenance=origin),
    ]


def size_of_png(content: bytes) -> tuple[int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        width, height = image.size
    return width, height


@pytest.mark.parametrize("pair", [False, True])
def test_results_show_a_picture_and_an_escaped_table(make_embedding: Make, pair: bool) -> None:
    pytest.importorskip("matplotlib")
    for result in results_of(make_embedding(9, EVIL, "<b>", pair=pair)):
        html = result._repr_html_()
        assert f"<tr><th>name</th><td>{SAFE}</td></tr><tr><th>chain</th><td>&lt;b&gt;</td>" in html
        assert "<tr><th>residues</th><td>9</td>" in html and f"<th>model</th><td>{SAFE}</td>" in html
        pictures = re.findall(r'src="data:image/png;base64,([^"]*)" width="(\d+)"', html)
        assert len(pictures) == (not isinstance(result, LabelPrediction))
        for data, width in pictures:
            assert size_of_png(base64.b64decode(data))[0] >= int(width) > 100
        left = re.sub(r'<img src="data:[^>]*>', "", html)
        assert set(re.findall(r"<(\w+)", left)) <= {"div", "table", "tr", "th", "td"}


def test_an_embedding_names_its_levels(make_embedding: Make) -> None:
    html = make_embedding(7, pair=True)._repr_html_()
    for row in ("protein</th><td>(4,)", "residue</th><td>(7, 4)", "pair</th><td>(7, 7, 4)"):
        assert row in html
    assert "<th>pair</th><td>not kept</td>" in make_embedding(7)._repr_html_()


def test_without_matplotlib_there_is_the_table(make_embedding: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "protemb_sdk._base.figure", raising=False)
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    for result in results_of(make_embedding(9)):
        html = result._repr_html_()
        assert html.startswith("<table><tr><th>name</th><td>made</td>") and "<img" not in html


def test_pictures_of_long_chains_are_small(make_embedding: Make) -> None:
    pytest.importorskip("matplotlib")
    embedding = make_embedding(3 * SMALL + 1)
    maps = [axes.images[0].get_array() for axes in thumbnail(embedding.chain, embedding.residue, None).axes]
    shapes = [image.shape for image in maps if image is not None]
    assert shapes[0] == (193, 193) and shapes[1] == (1, len(embedding), 3)


def test_figures_show_themselves_once(make_embedding: Make) -> None:
    pytest.importorskip("matplotlib")
    formatters = pytest.importorskip("IPython.core.formatters")
    figure = make_embedding(9, pair=True).plot()
    data, metadata = formatters.DisplayFormatter().format(figure)
    width, height = size_of_png(data["image/png"])
    assert set(data) == {"text/plain", "image/png"} and width > 1000
    shown = metadata["image/png"]
    assert shown["width"] / shown["height"] == pytest.approx(width / height, rel=0.01)
    assert shown["width"] < 1000


def test_runs_show_how_far_they_are(embedder: Embedder, head: Path, structures: Path, tmp_path: Path) -> None:
    (tmp_path / "a<b>.pdb").write_text("nothing")
    inputs = [structures / "1a8o.cif", tmp_path / "a<b>.pdb"]
    predictor = SitePredictor(head, embedder=embedder)
    for run in (
        embedder.embed_many(inputs, on_error="skip"),
        predictor.predict_many(inputs, on_error="skip"),
    ):
        assert "<th>inputs done</th><td>0 of 2</td></tr><tr><th>chains</th><td>0</td>" in run._repr_html_()
        assert len(list(run)) == 1
        html = run._repr_html_()
        assert "<th>inputs done</th><td>2 of 2</td></tr><tr><th>chains</th><td>1</td>" in html
        assert "a&lt;b&gt;.pdb</td>" in html and "<th>model</th><td>base</td>" in html
    assert "<th>head</th><td>tiny</td>" in html
    assert "<th>inputs done</th><td>0</td>" in embedder.embed_many(iter(inputs))._repr_html_()


def test_long_lists_of_what_was_skipped_are_cut(embedder: Embedder, tmp_path: Path) -> None:
    run = embedder.embed_many([tmp_path / f"{n}.pdb" for n in range(1005)], on_error="skip")
    assert not list(run)
    html = run._repr_html_()
    assert html.count("no such file") == 10 and "<td>and 995 more</td>" in html


def test_hits_are_a_table() -> None:
    hit = Hit(
        id=EVIL, name="n", chain_id="A", source="s", sequence="AA", length=2, similarity=0.5, tm_query=0.25,
        tm_target=0.75, e_value=1e-3, rmsd=1.25, pairs=np.zeros((2, 2), dtype=np.int64), identity=0.5,
    )  # fmt: skip
    html = Hits([hit, hit])._repr_html_()
    assert html.count(f"<td>{SAFE}</td><td>2</td><td>0.500</td><td>0.250</td><td>0.750</td>") == 2
    assert hit._repr_html_().count("<tr>") == 2 and Hits([hit]) == [hit]
    other = replace(hit, source="t", length=100)
    html = Hits([hit, other], 100)._repr_html_()
    assert f"<td>{SAFE} (s)</td>" in html and f"<td>{SAFE} (t)</td>" in html  # one chain of two files
    assert "<div>note: in 1 of 2 hits the query or the hit has fewer than 40 residues; " in html
    assert "<div>note: in 1 of 1 hits" in Hits([other], 39)._repr_html_()
    without = replace(hit, tm_query=float("nan"))  # from an index of proteins alone
    for hits in (Hits([other], 100), Hits([other]), Hits([]), Hits([without], 3)):
        assert "note" not in hits._repr_html_()


def test_tables_hold_what_they_are_given() -> None:
    assert card({"a<": 1, "b": None}) == (
        "<table><tr><th>a&lt;</th><td>1</td></tr><tr><th>b</th><td>None</td></tr></table>"
    )
    assert listing("ab", [(1, "&")]) == (
        "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>&amp;</td></tr></tbody></table>"
    )
