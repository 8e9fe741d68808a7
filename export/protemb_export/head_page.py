"""The model card of a predictor as a page, made from the metadata of its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protemb_export.page import listed, table
from protemb_export.words import in_words

SCORES = {
    "chains": "chains",
    "prevalence": "share of sites",
    "called": "share called",
    "auprc": "AUPRC",
    "mcc": "MCC",
    "f1": "F",
    "precision": "precision",
    "recall": "recall",
    "auroc": "AUROC",
    "mean_probability": "mean probability",
    "brier": "Brier score",
    "brier_of_prevalence": "Brier score of the share of sites",
}

LIMITS = """\
- The input is one chain: C-alpha atoms and residue types. No sequence profile, side chains or partners.
- Sites are interfaces with proteins; ligands, nucleic acids and crystal contacts are not labelled.
- Labels come from solved complexes: a residue without a partner in them may have one elsewhere.
- Probabilities are calibrated on chains of the training set. The difference between mean probability and
  share of sites shows the calibration error on other sets."""


def as_head_page(card: Mapping[str, Any]) -> str:
    """Return the card of a predictor as Markdown: identity, quality, training, limits.

    Parameters
    ----------
    card : mapping
        From `read_card`; the list of training chains and the golden values are left out.
    """
    training = dict(card.get("training", {}))
    training.pop("ids", None)
    start = training.pop("start", None)
    if start is not None:
        pieces, held_out = start["pieces"]
        training |= {
            "pretrained on": f"{pieces} pieces of corpus chains, {held_out} held out",
            "corpus (SHA-256)": start.get("corpus_sha256"),
        }
    facts = {
        "kind": card.get("kind"),
        "embeddings": listed(card.get("encoder")),
        "readouts": ", ".join(card.get("readouts", [])),
        "a residue is called a site": _rule(card),
        "deviation from PyTorch": listed(card.get("parity")),
        "exported by": listed(card.get("exported_by")),
        "licence": card.get("licence"),
    }
    parts = [
        f"# Model card: {card.get('name', 'without a name')}",
        in_words(card),
        "Made from the metadata of the graph by `protemb-export card`.",
        table(facts),
        "## Quality on held-out chains",
        _quality(card.get("quality", {})),
        "## Training",
        table(training),
        "## Known limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _rule(card: Mapping[str, Any]) -> str | None:
    if "threshold" not in card:
        return None
    if card["threshold"] is None:
        return "as many as expected, the sum of the probabilities of the chain"
    return f"from probability {card['threshold']:.3f}, chosen on held-out chains of the training set"


def _quality(quality: Mapping[str, Mapping[str, float]]) -> str:
    lines = [f"| set | {' | '.join(SCORES.values())} |", "|---|" + "---|" * len(SCORES)]
    for name, scores in quality.items():
        cells = (str(scores.get(key, "not reported")) for key in SCORES)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
