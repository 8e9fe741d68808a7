"""The model card of a Hugging Face repository: metadata as YAML, an example, and the page of the card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from protemb_export.pages import page_of
from protemb_export.words import in_words

LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0", "CC0-1.0": "cc0-1.0", "CC-BY-4.0": "cc-by-4.0"}
TAGS = ("biology", "protein", "protein-structure", "embeddings", "onnx")
EXAMPLES = {
    "embedding": """\
embedding = Embedder("NAME.onnx").embed("1a8o.cif")
embedding.protein, embedding.residue  # arrays (C,) and (L, C)""",
    "score": 'gradient = Embedder("NAME.onnx").denoising_gradient("1a8o.cif", sigma=0.5)  # (L, 3)',
    "sites": 'probability = SitePredictor("NAME.onnx").predict("1a8o.cif").probability  # (L,)',
    "quality": """\
score = QualityScorer("NAME.onnx").score("1a8o.cif")
score.gdt_ts, score.residue_lddt  # a number and an array (L,)""",
}
LABELS = 'value = LabelPredictor("NAME.onnx").predict("1a8o.cif").value'


def as_hugging_face_page(card: Mapping[str, Any]) -> str:
    """Return a README.md for the Hugging Face Hub.

    Parameters
    ----------
    card : mapping
        From `protemb_export.page.read_card`.
    """
    title, facts = page_of(card).split("\n\n", 1)
    words = in_words(card)
    facts = facts.removeprefix(words).lstrip()
    return "\n\n".join([_front_matter(card), title, words, _example(card), facts])


def _front_matter(card: Mapping[str, Any]) -> str:
    licence = card.get("licence")
    fields: dict[str, Any] = {}
    if licence in LICENCES:
        fields["license"] = LICENCES[str(licence)]
    elif licence is not None:
        fields |= {"license": "other", "license_name": licence}
    fields |= {"library_name": "protemb-sdk", "tags": list(TAGS)}
    if card.get("kind") == "embedding":
        fields["pipeline_tag"] = "feature-extraction"
    # JSON values are YAML, whatever characters a name contains.
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in fields.items()), "---"])


def _example(card: Mapping[str, Any]) -> str:
    code = EXAMPLES.get(str(card.get("kind")), LABELS).replace("NAME", str(card.get("name", "model")))
    imported = re.search(r"(\w+)\(\"", code)
    assert imported is not None
    lines = [
        "    pip install 'protemb-sdk[cpu]'",
        "```python",
        f"from protemb_sdk import {imported[1]}",
        "",
        code,
        "```",
    ]
    return "\n".join([lines[0], "", *lines[1:]])
